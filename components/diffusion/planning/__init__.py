"""Will a run fit? The GPU memory of each step, counted before any weights are loaded, and advice where it is too much."""
