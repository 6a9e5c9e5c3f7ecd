"""Engines, a folder for each, and the seam between them and experiments."""
