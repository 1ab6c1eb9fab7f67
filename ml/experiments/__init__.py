"""Experiments: cross-validation, comparison of networks, and the baseline without a network."""
