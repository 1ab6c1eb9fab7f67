"""Assemble DICOM series into volumes that can be cut in every plane."""

from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

from ml.errors import InvalidManifest, UnreadableImage
from ml.imaging import FileFacts, Geometry, Limits, Slice, inspect, load, read_bytes, sniff
from ml.imaging.series import SeriesPlan, assemble
from ml.imaging.studies import study_files

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_volumes(path: Path) -> Iterator[bytes]:
    """The volumes of a file (NIfTI, MGH, NRRD) or of the DICOM files in a folder, as NIfTI.

    Series that are not a volume (fewer than three slices, gaps, colour) are skipped.

    Raises:
        InvalidManifest: there is no volume.
        UnreadableImage: a file cannot be read.
    """
    contents: list[bytes] = []
    facts: list[FileFacts] = []
    for _name, content in study_files(path):
        if isinstance(content, UnreadableImage):
            raise content
        loaded = load(content) if isinstance(content, Path) else content
        facts.append(inspect(loaded))
        reader = sniff(loaded)
        convert = None if reader.format == "NIFTI" else reader.as_nifti
        contents.append(convert(loaded, Limits()) if convert else loaded)
    volumes = 0
    for plan in assemble(facts):
        first = plan.slices[0].file
        if facts[first].format == "NIFTI":
            volumes += 1
            yield contents[first]
        elif plan.is_volume and (stacked := _stacked(plan, contents, facts)) is not None:
            volumes += 1
            yield stacked
    if not volumes:
        raise InvalidManifest(f"{path} holds no volume.")


def _stacked(plan: SeriesPlan, contents: list[bytes], facts: list[FileFacts]) -> bytes | None:
    """The slices of a series as one volume; None for colour."""
    decoded: dict[int, list[Slice]] = {}
    slices = []
    for placed in plan.slices:
        if placed.file not in decoded:
            decoded = {placed.file: read_bytes(contents[placed.file])}
        slices.append(decoded[placed.file][placed.frame])
    if any(one.is_colour for one in slices):
        return None
    values = np.stack(
        # The axes of the file are column, row and slice.
        [(one.pixels * np.float32(one.scale) + np.float32(one.offset)).T for one in slices],
        axis=2,
    )
    places = [facts[placed.file].frames[placed.frame].geometry for placed in plan.slices]
    affine = _affine([place for place in places if place is not None], slices[0].spacing)
    return bytes(nib.Nifti1Image(values, affine).to_bytes())


def _affine(places: list[Geometry], spacing: tuple[float, float] | None) -> np.ndarray:
    """(4, 4) from column, row and slice number to millimetres towards right, front and head."""
    row_spacing, column_spacing = spacing or (1.0, 1.0)
    first, last = np.array(places[0].position), np.array(places[-1].position)
    affine = np.eye(4)
    affine[:3, 0] = np.array(places[0].row_direction) * column_spacing
    affine[:3, 1] = np.array(places[0].column_direction) * row_spacing
    affine[:3, 2] = (last - first) / (len(places) - 1)
    affine[:3, 3] = first
    return np.asarray(_LPS_TO_RAS @ affine)
