"""Training a network: batches, augmentation, losses, the loop and its recipe."""
