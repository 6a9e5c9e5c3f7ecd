"""What is shown; here for existing code that imports it."""
