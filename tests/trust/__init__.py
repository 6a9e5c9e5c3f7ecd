"""What is received is not believed."""
