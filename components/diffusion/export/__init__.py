"""Write style models to disk, in our own layout and in those of other programs."""
