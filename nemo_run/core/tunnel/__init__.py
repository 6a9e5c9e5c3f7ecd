"""The road to another machine's shell."""
