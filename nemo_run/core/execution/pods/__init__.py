"""What engines share whose tasks run in pods of Kubernetes."""
