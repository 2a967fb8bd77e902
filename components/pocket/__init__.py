"""The pocket world: procedural images, and the small base models trained on them."""
