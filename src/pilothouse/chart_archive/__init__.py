"""What is known about a chart archive before anything opens it."""
