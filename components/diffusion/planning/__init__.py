"""Will it fit? What each step takes of a GPU's memory, counted before weights are there: parameters, activations, advice."""
