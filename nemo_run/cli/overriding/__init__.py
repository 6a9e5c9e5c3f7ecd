"""Overrides: from what is typed, and from files, to values in a configuration."""
