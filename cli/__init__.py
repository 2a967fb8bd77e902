"""The ``styleforge`` command: one file a command group. Parses, prints and exits."""
