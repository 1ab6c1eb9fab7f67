"""Slices, series and volumes for the browser."""
