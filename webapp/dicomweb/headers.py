"""Headers of stored instances as DICOM JSON (PS3.18 F)."""

import json
from typing import Any, BinaryIO

import pydicom
from pydicom import Dataset

from ml.imaging.discretion import hushed
from webapp.extensions import current_blobs
from webapp.storage import MissingBlob

Json = dict[str, Any]

_GROUP_OF_PIXELS = 0x7FE0
# Larger binary values are tables and spectra, which are bulk data.
_LONGEST_BINARY = 1024
_BINARY = {"OB", "OD", "OF", "OL", "OV", "OW", "UN"}


def header_of(blob_key: str) -> Json:
    """An instance's header without bulk data; empty if the file is gone or unreadable."""
    blobs = current_blobs()
    try:
        with blobs.open(blob_key) as file:
            return header_in(file)
    except MissingBlob:
        return {}


def header_in(file: BinaryIO) -> Json:
    """The header of a DICOM file, without values that JSON cannot represent."""
    with hushed():
        try:
            dataset = pydicom.dcmread(file, stop_before_pixels=True, force=True)
            return json_of(dataset)
        except Exception:  # a damaged file can raise any exception
            return {}


def json_of(dataset: Dataset) -> Json:
    """A dataset as DICOM JSON without bulk data; removes them from ``dataset``."""
    with hushed():
        _drop_bulk(dataset)
        found: Json = dataset.to_json_dict(suppress_invalid_tags=True)
    return {tag: element for tag, element in found.items() if _is_json(element)}


def _drop_bulk(dataset: Dataset) -> None:
    for element in list(dataset):
        if element.VR == "SQ":
            for item in element.value or []:
                _drop_bulk(item)
        elif element.VR in _BINARY and len(element.value or b"") > _LONGEST_BINARY:
            del dataset[element.tag]


def _is_json(element: object) -> bool:
    """Whether JSON can represent the element: it has no infinity and no NaN."""
    try:
        json.dumps(element, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
