"""What a command does, from a configuration to a result in plain data."""
