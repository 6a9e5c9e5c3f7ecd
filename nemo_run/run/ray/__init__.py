"""Ray clusters and jobs, on any engine that can have them."""
