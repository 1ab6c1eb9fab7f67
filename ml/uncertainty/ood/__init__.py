"""Out-of-distribution detection: whether a picture looks like a slice of a head at all.

The exported functions use only the picture, without a network.
"""

from ml.uncertainty.ood.colour_and_frame import colour_or_bright_frame
from ml.uncertainty.ood.picture_rule import evidence_against_head

__all__ = ["colour_or_bright_frame", "evidence_against_head"]
