"""Ray below the engines: the seam, Ray's own API for jobs, and what runs beside a cluster."""
