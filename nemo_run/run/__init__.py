"""Managing many jobs: experiments, their store, their controller."""
