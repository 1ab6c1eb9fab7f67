"""What arrives: checked, put together, submitted."""
