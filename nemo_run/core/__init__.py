"""Describing and running one job on one engine."""
