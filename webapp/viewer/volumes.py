"""Grey values for the browser: one slice, or a whole series as a NIfTI volume.

The volume viewer reads NIfTI-1 (https://nifti.nimh.nih.gov/nifti-1). In its patient system x
points right and y points to the front; in DICOM's (PS3.3, C.7.6.2) x points left and y to the
back. Hence the signs.
"""

import hashlib
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from flask import Response, request, stream_with_context
from flask_babel import gettext as _
from nibabel.nifti1 import Nifti1Header
from sqlalchemy import select
from sqlalchemy.orm import selectinload

from ml.errors import UnreadableImage
from ml.imaging import NO_LIMITS, read_bytes
from ml.imaging.pictures import is_16_bit_png
from webapp.database import db
from webapp.errors import Conflict, NotFound
from webapp.extensions import blob_to_read, current_room, current_settings
from webapp.storage import MissingBlob
from webapp.studies.models import Image, Series

_MILLIMETRES = 2  # NIFTI_UNITS_MM
_SCANNER = 1  # NIFTI_XFORM_SCANNER_ANAT
_DATA_AT = 352  # header of 348 bytes and an empty extension flag
_FASTEST = 1  # zlib level: the network is fast, the CPU is shared
# Layers per slice; a volume with more would be mostly empty.
_LAYERS_TO_A_SLICE = 4
_MOST_LAYERS = 2**15 - 1  # NIfTI-1 dimensions are signed 16-bit integers
_LARGEST_VOXEL = 4  # bytes


@dataclass(frozen=True)
class _Layer:
    """One layer of a volume; empty if the slice is missing."""

    blob_key: str | None = None
    heatmap_key: str | None = None
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class _Grid:
    """Geometry of a series' slices.

    Attributes:
        shape: (columns, rows, slices).
        affine: (4, 4) from voxel indices to NIfTI's patient system, millimetres.
    """

    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]
    layers: list[_Layer]


def slice_values(image: Image) -> Response:
    """The stored pixels of a slice, 16 bit little endian, row by row, without a header.

    Colour is averaged to grey. ``X-Bits`` gives the stored bit depth.

    Raises:
        NotFound: it is not decoded yet, or can no longer be read.
    """
    if image.blob_key is None:
        raise NotFound(_("This slice has not been processed yet."))
    response = Response(mimetype="application/octet-stream")
    if not _known_to_browser(response, image.blob_key):
        with _opened(image.blob_key) as content:
            response.set_data(_grey(content).astype("<u2").tobytes())
            bits = "16" if is_16_bit_png(content) else "8"
        response.headers["X-Bits"] = bits
    return response


def volume(series: Series) -> Response:
    """The series as NIfTI-1, streamed slice by slice; missing slices are black.

    Values are 16 bit with slope and intercept if all slices share them, else 32-bit floats.

    Raises:
        NotFound: it is not a volume, or not all of its slices are decoded yet.
        Conflict: it would be mostly empty, or exceeds the limit for volumes.
    """
    grid = _grid(series, _decoded_images(series))
    scales = {(layer.scale, layer.offset) for layer in grid.layers if layer.blob_key}
    shared = scales.pop() if len(scales) == 1 else None
    kind = np.dtype("<u2") if shared else np.dtype("<f4")
    header = _header(grid, kind)
    header.set_slope_inter(*(shared or (1.0, 0.0)))
    response = _streamed(
        _with_header(header, _all_values(grid, kind)),
        [layer.blob_key or "" for layer in grid.layers],
        "application/octet-stream",
    )
    if response.status_code == 200:
        response.content_length = _DATA_AT + math.prod(grid.shape) * kind.itemsize
    return response


def heatmap_volume(series: Series) -> Response:
    """The opacity of each voxel's heatmap, 0..255, as gzipped NIfTI-1 on the volume's grid.

    The opacity increases with the heat, so it is used as the heat.

    Raises:
        NotFound: it is not a volume, is not decoded yet, or none of its slices has a heatmap.
        Conflict: as for :func:`volume`.
    """
    grid = _grid(series, _decoded_images(series))
    keys = [layer.heatmap_key or "" for layer in grid.layers]
    if not any(keys):
        raise NotFound(_("There is no heatmap for this series."))
    layers = (_opacity(key, grid) for key in keys)
    chunks = _gzipped(_with_header(_header(grid, np.dtype("u1")), layers))
    return _streamed(chunks, keys, "application/gzip")


def _decoded_images(series: Series) -> list[Image]:
    if not series.is_volume or not series.row_direction or not series.column_direction:
        raise NotFound(_("This series is not a volume."))
    images = list(
        db.session.scalars(
            select(Image)
            .where(Image.series_id == series.id)
            .order_by(Image.position)
            .options(selectinload(Image.predictions))
        )
    )
    if any(image.blob_key is None and image.problem is None for image in images):
        raise NotFound(_("Not all slices of this series have been processed yet."))
    if len(images) < 2 or any(image.origin is None for image in images):
        raise NotFound(_("This series is not a volume."))
    return images


def _grid(series: Series, images: list[Image]) -> _Grid:
    """Place the slices by their positions, so that a missing one leaves an empty layer."""
    row = np.asarray(series.row_direction, dtype=np.float64)
    column = np.asarray(series.column_direction, dtype=np.float64)
    origins = np.asarray([image.origin for image in images], dtype=np.float64)
    way = origins[-1] - origins[0]
    with np.errstate(over="ignore"):
        length = float(np.linalg.norm(way))
    spacing = series.slice_spacing or length / (len(images) - 1)
    if spacing <= 0 or length <= 0 or not math.isfinite(length):
        raise NotFound(_("This series is not a volume."))
    with np.errstate(all="ignore"):
        steps = np.rint((origins - origins[0]) @ (way / length) / spacing)
    if not np.isfinite(steps).all() or steps.min() < 0:
        raise NotFound(_("This series is not a volume."))
    first = images[0]
    _check_extent(float(steps.max()) + 1, images)
    layers = [_Layer()] * int(steps.max() + 1)
    for step, image in zip(steps.astype(int), images, strict=True):
        layers[step] = _layer(image)
    affine = np.eye(4)
    affine[:3, 0] = row * (first.column_spacing or 1.0)
    affine[:3, 1] = column * (first.row_spacing or 1.0)
    affine[:3, 2] = way / length * spacing
    affine[:3, 3] = origins[0]
    affine[:2] *= -1.0  # from left and back to right and front
    return _Grid((first.width, first.height, len(layers)), affine, layers)


def _check_extent(layers: float, images: list[Image]) -> None:
    """Check the size of a volume before it is made."""
    size = layers * images[0].width * images[0].height * _LARGEST_VOXEL
    if (
        layers > min(_LAYERS_TO_A_SLICE * len(images), _MOST_LAYERS)
        or size > current_settings().max_volume_bytes
    ):
        raise Conflict(
            _("The slices of this series are too far apart or too many to be shown as a volume.")
        )


def _header(grid: _Grid, kind: np.dtype[Any]) -> Any:
    header: Any = Nifti1Header(endianness="<")
    header.set_data_dtype(kind)
    header.set_data_shape(grid.shape)
    header.set_sform(grid.affine, code=_SCANNER)
    header["pixdim"][1:4] = np.linalg.norm(grid.affine[:3, :3], axis=0)
    header["xyzt_units"] = _MILLIMETRES
    header["vox_offset"] = _DATA_AT
    header["magic"] = b"n+1"
    return header


def _with_header(header: Any, layers: Iterator[bytes]) -> Iterator[bytes]:
    yield header.binaryblock + bytes(_DATA_AT - len(header.binaryblock))
    yield from layers


def _layer(image: Image) -> _Layer:
    heatmap_key = image.prediction.heatmap_key if image.prediction else None
    return _Layer(image.blob_key, heatmap_key, image.value_scale, image.value_offset)


def _all_values(grid: _Grid, kind: np.dtype[Any]) -> Iterator[bytes]:
    """The values of each layer; its memory stays reserved until it is sent."""
    columns, rows, _layers = grid.shape
    for layer in grid.layers:
        with current_room().taken(columns * rows * kind.itemsize):
            yield _values(layer, grid, kind)


def _values(layer: _Layer, grid: _Grid, kind: np.dtype[Any]) -> bytes:
    columns, rows, _layers = grid.shape
    if layer.blob_key is None:
        return bytes(columns * rows * kind.itemsize)
    with _opened(layer.blob_key) as content:
        pixels = _grey(content)
        if kind.kind == "f":
            return (pixels * layer.scale + layer.offset).astype(kind).tobytes()
        return pixels.astype(kind).tobytes()


def _opacity(heatmap_key: str, grid: _Grid) -> bytes:
    columns, rows, _layers = grid.shape
    if heatmap_key:
        with _opened(heatmap_key) as content:
            pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
            if pixels is not None and pixels.shape == (rows, columns, 4):
                return pixels[..., 3].tobytes()
    return bytes(columns * rows)


def _grey(content: bytes) -> npt.NDArray[Any]:
    pixels = read_bytes(content, NO_LIMITS)[0].pixels
    if pixels.ndim == 2:
        return pixels
    return np.asarray(pixels.mean(axis=2).round(), dtype=pixels.dtype)


def _gzipped(chunks: Iterator[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(_FASTEST, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    for chunk in chunks:
        if packed := packer.compress(chunk):
            yield packed
    yield packer.flush()


def _streamed(chunks: Iterator[bytes], keys: list[str], kind: str) -> Response:
    response = Response(mimetype=kind)
    if not _known_to_browser(response, hashlib.sha256("\0".join(keys).encode()).hexdigest()):
        response.response = stream_with_context(chunks)
    return response


def _known_to_browser(response: Response, tag: str) -> bool:
    response.set_etag(tag)
    response.cache_control.private = True
    # The browser must revalidate: the content may change, and the user may have signed out.
    response.cache_control.no_cache = True
    if request.if_none_match.contains(tag):
        response.status_code = 304
        return True
    return False


@contextmanager
def _opened(key: str) -> Iterator[bytes]:
    try:
        with blob_to_read(key) as content:
            yield content
    except (MissingBlob, UnreadableImage) as error:
        raise NotFound(_("The stored image can no longer be read.")) from error
