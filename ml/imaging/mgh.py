"""MGH volumes of FreeSurfer (.mgh, .mgz), which are read and kept as NIfTI.

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

_HEADER = 284  # bytes, always big-endian; voxels follow at once
_VERSION = (1).to_bytes(4, "big")
_TYPE, _ORIENTED = slice(20, 24), slice(28, 30)
_TYPES, _FLAGS = range(11), range(2)


def recognises(content: bytes) -> bool:
    """Whether a file starts as MGH, compressed or not.

    The version is no mark that nothing else starts with, so that two more fields have to fit.
    """
    first = start(content, _HEADER)
    return (
        first.startswith(_VERSION)
        and int.from_bytes(first[_TYPE], "big") in _TYPES
        and int.from_bytes(first[_ORIENTED], "big") in _FLAGS
    )


def open_mgh(content: bytes, limits: Limits) -> tuple[Volume, Iterator[bytes]]:
    """The checked header, and the voxels in pieces, which come when they are asked for.

    A header that says nothing of how the volume lies means the default of the format: coronal
    slices of 1 mm. What stands behind the voxels (commands, names of files) is never read.

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
