"""Calibrated probabilities, prediction sets, and whether a slice is like those of training."""
