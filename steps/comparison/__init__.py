"""From scored cells to the comparison of methods."""
