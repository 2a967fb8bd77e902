"""Captions: a local vision-language model says what a picture shows, and what the identifier is to stand for is left out."""
