"""One small asymmetric volume, written in every format of volumes."""

import bz2
import gzip
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


def as_nrrd(
    volume: nib.Nifti1Image,
    *more: str,
    space: str = "left-posterior-superior",
    encoding: str = "raw",
    endian: str = "little",
) -> bytes:
    """An NRRD file with its values inside.

    Args:
        more: further lines of the header.
    """
    values = np.asanyarray(volume.dataobj)
    order = values.dtype.newbyteorder("<" if endian == "little" else ">")
    raw = values.astype(order).tobytes(order="F")
    signs = np.array([-1 if "left" in space else 1, -1 if "posterior" in space else 1, 1])
    vectors = [
        "({})".format(",".join(map(str, column * signs))) for column in volume.affine[:3].T.tolist()
    ]
    header = [
        "NRRD0004",
        "# made for a test",
        f"type: {values.dtype.name.replace('float32', 'float').replace('float64', 'double')}",
        "dimension: 3",
        f"space: {space}",
        f"sizes: {' '.join(map(str, values.shape))}",
        f"space directions: {' '.join(vectors[:3])}",
        "kinds: domain domain domain",
        f"endian: {endian}",
        f"encoding: {encoding}",
        f"space origin: {vectors[3]}",
        *more,
    ]
    packed = {
        "raw": lambda: raw,
        "gzip": lambda: gzip.compress(raw, 1),
        "bzip2": lambda: bz2.compress(raw, 1),
        "ascii": lambda: " ".join(map(str, values.ravel(order="F").tolist())).encode(),
    }[encoding]()
    return "\n".join(header).encode() + b"\n\n" + packed


def looks(content: bytes, plane: str = "auto") -> list[tuple[object, ...]]:
    """What is seen of each slice: size, spacing, and values."""
    return [
        (one.index, one.pixels.shape, one.spacing, one.pixels.tobytes(), one.scale, one.offset)
        for one in read_bytes(content, plane=plane)
    ]
