"""What this package costs, beside NeMo-Run, submitit, and the bare operation: ``python -m benchmarks --help``."""
