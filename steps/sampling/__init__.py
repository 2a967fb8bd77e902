"""Drawing the prompt bank, whole or in shards."""
