"""OOD pictures from the DICOM files that pydicom ships: other bodies, other machines."""

from collections.abc import Iterator

import cv2
import numpy as np
import pydicom
from pydicom.data import get_testdata_file

from benchmarks.ood_pictures.pictures import Drawn
from ml.errors import SulcusMLError
from ml.evaluation.ood.variation import to_bytes

# Files whose picture is large enough to show something. The other MR files of the package are
# crops of 16 px or show a brain; the colour test cards are all alike.
_FILES = {
    "CT_small.dcm": "CT of a spine",
    "693_J2KI.dcm": "CT of a head",
    "J2K_pixelrep_mismatch.dcm": "CT of a head",
    "JPEG2000.dcm": "bone scan",
    "MR_small.dcm": "MRI of a shoulder",
    "examples_overlay.dcm": "MRI of an abdomen",
    "ExplVR_BigEnd.dcm": "ultrasound",
    "examples_palette.dcm": "ultrasound",
    "examples_rgb_color.dcm": "ultrasound",
    "examples_ybr_color.dcm": "ultrasound",
    "liver_1frame.dcm": "segmentation",
    "image_dfl.dcm": "test card",
    "SC_rgb_rle.dcm": "test card",
    "GDCMJ2K_TextGBR.dcm": "test card",
}
_FRAMED_SIDE = 256  # px


def medical() -> Iterator[Drawn]:
    """Each file's middle frame in grey, as it is, negative, and letter-boxed on a black square.

    Raises:
        SulcusMLError: a file is missing or cannot be decoded.
    """
    for name, kind in _FILES.items():
        source = f"pydicom {name}"
        grey = _grey(name)
        yield Drawn(kind, source, grey)
        yield Drawn(kind, source, _boxed(grey))
        if kind != "segmentation":
            yield Drawn(f"{kind}, negative", source, _boxed(255 - grey))


def _grey(name: str) -> np.ndarray:
    path = get_testdata_file(name, download=False)
    if path is None:
        raise SulcusMLError(f"pydicom lacks its test file {name}.")
    try:
        data = pydicom.dcmread(path)
        pixels = data.pixel_array
    except (OSError, ValueError, RuntimeError, AttributeError) as error:
        raise SulcusMLError(f"pydicom's test file {name} cannot be read: {error}") from error
    if int(data.get("NumberOfFrames") or 1) > 1:
        pixels = pixels[len(pixels) // 2]
    if data.SamplesPerPixel == 3:
        pixels = pixels.mean(axis=2)
    return to_bytes(pixels)


def _boxed(grey: np.ndarray) -> np.ndarray:
    scale = 0.8 * _FRAMED_SIDE / max(grey.shape)
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    box = np.zeros((_FRAMED_SIDE, _FRAMED_SIDE), np.uint8)
    top, left = (_FRAMED_SIDE - small.shape[0]) // 2, (_FRAMED_SIDE - small.shape[1]) // 2
    box[top : top + small.shape[0], left : left + small.shape[1]] = small
    return box
