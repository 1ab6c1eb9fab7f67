"""Which models have spoken here, and which one serves."""
