"""The embedded bases: small text-to-image models, an evaluator and a probe, trained from scratch on the pictures of a world."""
