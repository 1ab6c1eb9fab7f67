"""The affine of a NIfTI file, with the repairs that other readers make."""

import math

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.orientations import io_orientation
from nibabel.quaternions import quat2mat
from nibabel.volumeutils import shape_zoom_affine

from ml.errors import UnreadableImage

_PLAUSIBLE = 1e-3, 3e2  # mm; size of a voxel
_MOST_QUATERNION = 1.1  # squared length up to which a quaternion counts as rounded
_MILLIMETRES = {1: 1000.0, 3: 0.001}  # by xyzt_units: metres, micrometres; all others count as mm


def affine_of(header: nib.Nifti1Header, shape: tuple[int, int, int]) -> npt.NDArray[np.float64]:
    """(4, 4) from stored indices to millimetres, by the header's first plausible method.

    The repairs are those of nibabel, ITK and FSL.

    Raises:
        UnreadableImage: ``voxel_size`` or ``no_orientation``.
    """
    by_matrix, by_rotation = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
    ways = [_sform(header, shape)] if by_matrix else []
    ways += [_qform(header)] if by_rotation else []
    if not ways:  # only the voxel size: method 1 of the standard
        ways = [shape_zoom_affine(shape, zooms_of(header), header.default_x_flip)]
    unit = _MILLIMETRES.get(int(header["xyzt_units"]) & 0x07, 1.0)
    spatial = [affine for affine in ways if _is_spatial(affine)]
    for affine in spatial:
        affine[:3] *= unit
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
        if _PLAUSIBLE[0] < sizes.min() and sizes.max() < _PLAUSIBLE[1]:
            return affine
    if spatial:
        raise UnreadableImage("voxel_size", "The voxels have a size that makes no sense.")
    raise UnreadableImage("no_orientation", "The header does not say how the volume lies.")


def _sform(header: nib.Nifti1Header, shape: tuple[int, int, int]) -> npt.NDArray[np.float64]:
    affine = np.asarray(header.get_sform(), dtype=np.float64)
    if shape[2] == 1 and not affine[:3, 2].any():  # some writers omit it for a single slice
        across = np.cross(affine[:3, 0], affine[:3, 1])
        affine[:3, 2] = across / (np.linalg.norm(across) or 1.0)
    return affine


def _qform(header: nib.Nifti1Header) -> npt.NDArray[np.float64]:
    """The affine from the quaternion with rounding errors repaired; NaN without a valid one."""
    vector = np.array([float(header[f"quatern_{name}"]) for name in "bcd"])
    squared = float(vector @ vector)
    affine = np.eye(4)
    if not squared <= _MOST_QUATERNION:
        affine[:3] = np.nan
        return affine
    if squared > 1:
        vector /= math.sqrt(squared)
    real = math.sqrt(max(0.0, 1 - float(vector @ vector)))
    zooms = zooms_of(header)
    zooms[2] *= -1.0 if float(header["pixdim"][0]) < 0 else 1.0  # anything else means 1
    affine[:3, :3] = quat2mat([real, *vector]) * zooms
    origin = [float(header[f"qoffset_{name}"]) for name in "xyz"]
    affine[:3, 3] = np.nan_to_num(origin, nan=0.0, posinf=0.0, neginf=0.0)
    return affine


def zooms_of(header: nib.Nifti1Header) -> npt.NDArray[np.float64]:
    """(3,) voxel sizes; 1 if the header gives none."""
    sizes = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
    sizes[~np.isfinite(sizes) | (sizes == 0)] = 1.0
    sizes[int(header["dim"][0]) :] = 1.0
    return sizes


def _is_spatial(affine: npt.NDArray[np.float64]) -> bool:
    """Whether each axis runs along a different axis of the body."""
    return bool(np.isfinite(affine).all() and np.isfinite(io_orientation(affine)).all())
