"""Answers about slices: prediction, heatmaps, image quality and the engines that compute them."""
