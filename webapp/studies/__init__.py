"""Patients, studies, series, images and analyses: what all others read."""
