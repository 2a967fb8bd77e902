"""Base models and style models: families, sources, loading, tokens, deltas."""
