"""From a folder of images to a validated, split style set with its auxiliary images."""
