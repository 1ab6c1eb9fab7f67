"""Decode the bytes of a file into 2-D slices. Never imports torch."""

from ml.imaging.archives import is_archive, members
from ml.imaging.dicom import inspect_dicom
from ml.imaging.dicom_file import parse_dicom
from ml.imaging.facts import FileFacts, FrameFacts, Geometry
from ml.imaging.limits import NO_LIMITS, Limits, Room
from ml.imaging.nifti import strip_nifti
from ml.imaging.readers import (
    ACCEPTED_FORMATS,
    PICTURE_FORMATS,
    footprint,
    inspect,
    load,
    open_bytes,
    read_bytes,
    read_path,
    sniff,
)
from ml.imaging.slices import Slice, square_pixels

__all__ = [
    "ACCEPTED_FORMATS",
    "NO_LIMITS",
    "PICTURE_FORMATS",
    "FileFacts",
    "FrameFacts",
    "Geometry",
    "Limits",
    "Room",
    "Slice",
    "footprint",
    "inspect",
    "inspect_dicom",
    "is_archive",
    "load",
    "members",
    "open_bytes",
    "parse_dicom",
    "read_bytes",
    "read_path",
    "sniff",
    "square_pixels",
    "strip_nifti",
]
