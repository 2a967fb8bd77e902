"""Registering and promoting model versions."""
