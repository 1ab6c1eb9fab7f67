"""Tilt the head in a volume, to get the slice angulations of other hospitals."""

import gzip

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to

from ml.imaging import NO_LIMITS, strip_nifti

_NIFTI_2 = b"n+2\0"


def tilted(volume: bytes, degrees: float, *, is_mask: bool = False) -> bytes:
    """Rotate the head in a NIfTI volume about the axis from ear to ear.

    Hospitals angle axial slices anywhere between the planes of the orbits and of the skull base,
    which differ by about 15 degrees.

    Args:
        degrees: above 0, the chin moves down.
        is_mask: use the nearest voxel instead of interpolation.

    Raises:
        UnreadableImage: it cannot be read.

    Returns:
        A volume on the same grid, in canonical order; voxels from outside it get its darkest value.
    """
    image = nib.as_closest_canonical(_opened(volume))
    values = np.asanyarray(image.dataobj).astype(np.float32)
    while values.ndim > 3:
        values = values[..., 0]
    middle = image.affine @ [*(np.array(values.shape) - 1) / 2, 1]
    angle = np.deg2rad(degrees)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turn[:3, 3] = middle[:3] - turn[:3, :3] @ middle[:3]
    flat = nib.Nifti1Image(values, image.affine)
    turned = resample_from_to(
        flat,
        (values.shape, turn @ image.affine),
        order=0 if is_mask else 1,
        cval=float(values.min()),
    )
    return bytes(nib.Nifti1Image(np.asarray(turned.dataobj), image.affine).to_bytes())


def _opened(volume: bytes) -> nib.Nifti1Image:
    # The stripped copy is validated, in millimetres, and always compressed.
    plain = gzip.decompress(strip_nifti(volume, NO_LIMITS))
    kind = nib.Nifti2Image if plain[4:8] == _NIFTI_2 else nib.Nifti1Image
    return kind.from_bytes(plain)
