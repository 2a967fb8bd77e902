"""The pocket world: procedural images, and the small base model trained on them."""
