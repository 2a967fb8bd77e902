"""Cross-attention heat maps."""
