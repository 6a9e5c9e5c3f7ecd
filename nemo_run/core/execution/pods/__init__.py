"""Shared parts of the engines whose tasks run in pods of Kubernetes."""
