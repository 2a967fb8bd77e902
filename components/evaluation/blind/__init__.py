"""Blind tests with people: pairs of images, the page that asks about them, and the evaluation of the answers."""
