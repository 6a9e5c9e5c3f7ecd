"""Trackers that people have: MLflow, Weights & Biases, TensorBoard. Metrics are forwarded to them beside the tasks."""
