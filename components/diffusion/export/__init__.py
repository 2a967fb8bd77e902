"""Style models written to disk: our own layout, and those of other programs."""
