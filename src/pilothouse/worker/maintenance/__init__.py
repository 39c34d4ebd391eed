"""What is mended and cleared away beside the operations."""
