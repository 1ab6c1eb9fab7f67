"""Serving: prediction, heatmaps, image quality and inference engines."""
