"""The sampler and what serves it."""
