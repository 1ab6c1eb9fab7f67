"""Brain-MRI slice classification: readers, preprocessing, training, prediction, uncertainty.

The package does not depend on Flask, Celery or the database. Importing it, ``ml.labels``,
``ml.errors`` or ``ml.imaging`` does not import torch, so that the web tier can use them.
"""
