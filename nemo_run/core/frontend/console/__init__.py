"""The console that existing code prints with."""
