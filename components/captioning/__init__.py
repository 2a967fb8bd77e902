"""Captions from a local vision-language model: they say what a picture shows and leave out what the identifier is to stand for."""
