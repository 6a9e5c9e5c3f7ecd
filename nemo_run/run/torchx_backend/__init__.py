"""Tasks as TorchX knows them, for existing code; nothing else here uses TorchX."""
