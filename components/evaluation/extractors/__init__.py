"""Networks that turn images into features, a file each; ``factory.make_extractor`` knows their names."""
