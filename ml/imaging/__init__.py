"""From the bytes of a file to 2-D slices. Never imports torch."""

from ml.imaging.limits import NO_LIMITS, Limits
from ml.imaging.readers import ACCEPTED_FORMATS, read_bytes, read_path, sniff
from ml.imaging.slices import Slice

__all__ = ["ACCEPTED_FORMATS", "NO_LIMITS", "Limits", "Slice", "read_bytes", "read_path", "sniff"]
