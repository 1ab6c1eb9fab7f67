"""Measurements of a finished model: slices, studies, volumes, speed, explanations."""
