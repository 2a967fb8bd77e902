"""The work, in plain Python: rooms that import only themselves and ``core``."""
