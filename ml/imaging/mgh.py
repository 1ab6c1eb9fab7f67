"""MGH volumes of FreeSurfer (.mgh, .mgz), which are read and stored as NIfTI.

https://surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat
"""

from collections.abc import Iterator

import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader, data_type_codes

from ml.errors import UnreadableImage
from ml.imaging.discretion import discreet
from ml.imaging.limits import Limits
from ml.imaging.nifti import Volume, volume_of
from ml.imaging.unpacking import pieces, start

_HEADER = 284  # bytes, always big-endian; the voxels follow directly
_VERSION = (1).to_bytes(4, "big")
_TYPE, _ORIENTED = slice(20, 24), slice(28, 30)
_TYPES, _FLAGS = range(11), range(2)


def recognises(content: bytes) -> bool:
    """Whether a file starts as MGH, compressed or not.

    The version alone is not a unique signature, so two more fields have to be valid.
    """
    first = start(content, _HEADER)
    return (
        first.startswith(_VERSION)
        and int.from_bytes(first[_TYPE], "big") in _TYPES
        and int.from_bytes(first[_ORIENTED], "big") in _FLAGS
    )


def open_mgh(content: bytes, limits: Limits) -> tuple[Volume, Iterator[bytes]]:
    """The checked header, and a lazy iterator of the voxels in pieces.

    A header without an orientation means the format's default: coronal slices of 1 mm. Data after
    the voxels (commands, file names) are never read.

    Raises:
        UnreadableImage: see :func:`ml.imaging.nifti.decode_nifti`.
    """
    first = start(content, _HEADER)
    with discreet("truncated", "The MGH header is damaged."):
        header = MGHHeader(first[:_HEADER], check=False)
        if int(header["type"]) not in data_type_codes.code:
            raise UnreadableImage("unsupported", "Voxels of this type are refused.")
        shape = tuple(int(extent) for extent in header["dims"])
        affine = np.asarray(header.get_affine(), dtype=np.float64)
        dtype = np.dtype(header.get_data_dtype())
    return volume_of(shape, dtype, affine, limits).starting_at(_HEADER), pieces(content)
