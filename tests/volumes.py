"""One small asymmetric volume, written in every format of volumes."""

import math

import nibabel as nib
import numpy as np
from nibabel.orientations import axcodes2ornt, ornt_transform

from ml.imaging import read_bytes

SHAPE = (36, 48, 34)  # towards right, front and head


def small_volume(codes: str = "RAS", dtype: type = np.int32) -> nib.Nifti1Image:
    """A volume whose voxels all differ, as far as their type allows.

    Args:
        codes: towards where the stored axes run.
    """
    numbers = np.arange(math.prod(SHAPE)).reshape(SHAPE)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[:3, 3] = (-20, -30, -10)
    image = nib.Nifti1Image(numbers.astype(dtype), affine, dtype=dtype)
    return image.as_reoriented(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(tuple(codes))))


def as_nifti_file(volume: nib.Nifti1Image) -> bytes:
    return bytes(volume.to_bytes())


def as_mgh(volume: nib.Nifti1Image) -> bytes:
    return bytes(nib.MGHImage(np.asanyarray(volume.dataobj), volume.affine).to_bytes())


def looks(content: bytes, plane: str = "auto") -> list[tuple[object, ...]]:
    """What is seen of each slice: size, spacing, and values."""
    return [
        (one.index, one.pixels.shape, one.spacing, one.pixels.tobytes(), one.scale, one.offset)
        for one in read_bytes(content, plane=plane)
    ]
