"""What all components share: configuration, errors, paths, digests, logs, devices."""
