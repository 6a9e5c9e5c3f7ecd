"""The commands of ``nemorun`` itself."""
