"""Patients, studies, series, images and analyses, used by all other packages."""
