"""Images to sets: sources, safe decoding, the manifest, validation, the split into roles, and auxiliary sets."""
