"""Model versions that have made predictions, and which one is serving."""
