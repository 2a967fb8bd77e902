"""People judge with the names hidden: pairs of images, the page that asks, and what the answers come to."""
