"""The page: nemorun ui."""
