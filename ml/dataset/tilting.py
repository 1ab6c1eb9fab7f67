"""A volume of a head that nods: other planes of the same patient, as other hospitals angle them."""

import gzip

import nibabel as nib
import numpy as np
from nibabel.processing import resample_from_to

from ml.imaging import NO_LIMITS, strip_nifti

_NIFTI_2 = b"n+2\0"


def tilted(volume: bytes, degrees: float, *, is_mask: bool = False) -> bytes:
    """Turn the head of a NIfTI volume about the axis from ear to ear.

    Hospitals angle axial slices anywhere between the orbits' and the skull base's plane, which
    lie about 15 degrees apart.

    Args:
        degrees: above 0, the chin goes down.
        is_mask: whether to take the nearest voxel instead of a mean.

    Raises:
        UnreadableImage: it cannot be read.

    Returns:
        A volume on the grid of the one given, in canonical order; beyond its edge it is as dark as
        its darkest value.
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
    # The copy is checked, in millimetres, and always compressed.
    plain = gzip.decompress(strip_nifti(volume, NO_LIMITS))
    kind = nib.Nifti2Image if plain[4:8] == _NIFTI_2 else nib.Nifti1Image
    return kind.from_bytes(plain)
