"""Brain-MRI slice classification: readers, preprocessing, training, prediction and doubt.

The package knows nothing of Flask, Celery or the database. Importing it, ``ml.labels``,
``ml.errors`` or ``ml.imaging`` does not import torch, so that the web tier can use them.
"""
