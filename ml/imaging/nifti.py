"""NIfTI volumes, cut into slices in radiological orientation."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.orientations import (
    apply_orientation,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

from ml.errors import UnreadableImage
from ml.imaging.discretion import discreet
from ml.imaging.facts import FileFacts, FrameFacts, Geometry, Vector
from ml.imaging.limits import Limits
from ml.imaging.nifti_affine import affine_of
from ml.imaging.slices import Slice, Slices
from ml.imaging.unpacking import GZIP, gzipped, pieces, start
from ml.imaging.values import mapping

PLANES = ("sagittal", "coronal", "axial")  # by the axis across them: right-left, back-front, up
_START = 600  # bytes; enough for the header of both versions
_LAST_START = 2**26  # bytes; extensions lie between the header and the voxels
_LONGEST_AXIS = 2**15
_THIN = 32  # voxels; a volume is cut across an axis shorter than that
_ANISOTROPIC = 1.4  # ratio to the other spacings from which a spacing determines the plane
_SURFACES = range(3000, 3100)  # intent codes of CIFTI-2
_MAGIC = {348: (344, b"n+1\0"), 540: (4, b"n+2\0\r\n\032\n")}
_PAIR = {348: (344, b"ni1\0"), 540: (4, b"ni2\0\r\n\032\n")}
_CANONICAL = np.array([[0, 1], [1, 1], [2, 1]])  # axes to right, front and head
_RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])
_ANALYZE = bytes(4)  # in place of the magic number


@dataclass(frozen=True)
class Volume:
    """A checked header.

    Attributes:
        offset: start of the voxels in the file, in bytes.
        shape: of the three axes as stored.
        affine: (4, 4) from stored indices to millimetres, axes to right, front and head.
    """

    header: nib.Nifti1Header
    offset: int
    shape: tuple[int, int, int]
    dtype: np.dtype[np.generic]
    affine: npt.NDArray[np.float64]

    @property
    def size(self) -> int:
        """Bytes of the voxels."""
        return math.prod(self.shape) * self.dtype.itemsize

    def starting_at(self, offset: int) -> "Volume":
        """The same volume with another offset of its voxels in the file."""
        return replace(self, offset=offset)


def recognises(content: bytes) -> bool:
    """Whether a file starts as NIfTI, compressed or not; includes headers of two-file images."""
    start = _start(content)
    return _has(start, _MAGIC) or _is_header_alone(start)


def inspect_nifti(content: bytes, limits: Limits, plane: str = "auto") -> FileFacts:
    """The facts of the header.

    Args:
        plane: ``axial``, ``coronal``, ``sagittal``, or ``auto`` for the acquisition plane: across
            an axis of fewer than 32 voxels, else across the axis of a clearly larger spacing,
            else axial.

    Raises:
        UnreadableImage: see :func:`decode_nifti`.
    """
    volume = _open(content, limits)
    return _cut(volume, plane, limits)


def decode_nifti(content: bytes, limits: Limits, plane: str = "auto") -> Slices:
    """Open the volume; slices are cut one at a time.

    Axial slices have the front at the top and the patient's right on the left, coronal ones the
    head at the top and the right on the left, sagittal ones the head at the top and the front on
    the left.

    Volumes with more than three dimensions (several time points, directions or echoes) are
    refused, because it is unknown which of them a reader would choose.

    Raises:
        UnreadableImage: ``truncated``, ``four_dimensional``, ``colour_volume``, ``unsupported``
            (complex numbers), ``cifti``, ``no_voxels`` (an axis of length 0), ``voxel_size`` and
            ``no_orientation`` (a geometry that cannot be repaired), ``header_only``,
            ``too_small``, ``too_many_pixels``, ``too_many_slices``.
    """
    volume = _open(content, limits)
    facts = _cut(volume, plane, limits)
    stored = np.frombuffer(_raw(content, volume), volume.dtype).reshape(volume.shape, order="F")
    found = mapping(stored, *_scaling(volume.header))
    canonical = apply_orientation(stored, io_orientation(volume.affine))  # a view
    axis = PLANES.index(facts.plane or "axial")

    def cut(index: int) -> Slice:
        return Slice(
            pixels=np.ascontiguousarray(found.pixels(_shown(canonical, axis, index))),
            index=index,
            spacing=facts.frames[index].spacing,
            scale=found.scale,
            offset=found.offset,
        )

    return Slices(len(facts.frames), cut)


def sizes(content: bytes) -> tuple[int, int]:
    """Bytes of the voxels, and voxels of the largest slice, according to the header.

    Raises:
        Exception: any error of a damaged header.
    """
    return sizes_of(_volume(_start(content)))


def sizes_of(volume: Volume) -> tuple[int, int]:
    """Bytes of the voxels, and voxels of the largest slice."""
    return volume.size, math.prod(sorted(volume.shape)[1:])


def strip_nifti(content: bytes, limits: Limits) -> bytes:
    """A compressed copy whose header has only geometry, type and scaling.

    Descriptions, file names and extensions are removed, as are the gzip file name and time.

    Raises:
        UnreadableImage: see :func:`decode_nifti`.
    """
    volume = _open(content, limits)
    with discreet("truncated", "The NIfTI header is damaged."):
        header = _plain_header(volume)
    return gzipped(chain([header], _voxels(pieces(content), volume)))


def mask_nifti(
    content: bytes, hidden: npt.NDArray[np.bool_], limits: Limits, plane: str = "auto"
) -> bytes:
    """As :func:`strip_nifti`, with hidden voxels set to the volume's darkest value.

    Args:
        hidden: (slices, height, width), for the slices that :func:`decode_nifti` cuts.
        plane: the plane of these slices.

    Raises:
        UnreadableImage: see :func:`decode_nifti`.
    """
    volume = _open(content, limits)
    axis = PLANES.index(_cut(volume, plane, limits).plane or "axial")
    canonical = np.moveaxis(hidden.transpose(0, 2, 1)[:, ::-1, ::-1], 0, axis)
    as_stored = ornt_transform(_CANONICAL, io_orientation(volume.affine))
    where = apply_orientation(canonical, as_stored)
    raw = bytearray().join(_voxels(pieces(content), volume))
    stored = np.frombuffer(raw, volume.dtype).reshape(volume.shape, order="F")
    values = stored[np.isfinite(stored)] if volume.dtype.kind == "f" else stored
    if values.size:
        stored[where] = values.min() if _scaling(volume.header)[0] > 0 else values.max()
    return nifti_of(replace(volume, offset=0), [bytes(raw)])


def volume_of(
    shape: tuple[int, ...],
    dtype: np.dtype[np.generic],
    affine: npt.NDArray[np.float64],
    limits: Limits,
) -> Volume:
    """A volume of another format, checked by the same rules.

    Args:
        shape: of all axes, the fastest first.
        affine: (4, 4) from stored indices to millimetres, axes to right, front and head.

    Raises:
        UnreadableImage: see :func:`decode_nifti`.
    """
    _check_kind(shape, dtype)
    if max(shape) >= _LONGEST_AXIS:
        raise UnreadableImage("too_many_pixels", "The volume has too many voxels.")
    axes = _axes(shape)
    order = ">" if dtype.byteorder == ">" else "<"
    with discreet("no_orientation", "The header does not say how the volume lies."):
        header = nib.Nifti1Header(endianness=order)
        header.set_data_dtype(dtype)
        header.set_data_shape(axes)
        header.set_sform(affine, code="scanner")
        volume = Volume(header, 0, axes, header.get_data_dtype(), affine_of(header, axes))
    _check_size(volume, limits)
    return volume


def inspect_volume(volume: Volume, limits: Limits, plane: str) -> FileFacts:
    """The facts of a volume; see :func:`inspect_nifti`."""
    return _cut(volume, plane, limits)


def nifti_of(volume: Volume, voxels: Iterable[bytes]) -> bytes:
    """The compressed NIfTI file of a volume, with only geometry, type and values.

    Args:
        voxels: the data in pieces, the first axis fastest. Bytes before the volume's offset are
            skipped, bytes after the last voxel are not read.

    Raises:
        UnreadableImage: ``truncated`` if there are too few.
    """
    return gzipped(chain([_plain_header(volume)], _voxels(voxels, volume)))


def _plain_header(volume: Volume) -> bytes:
    """A minimal header for the voxels, and the flag that no extension follows."""
    header = type(volume.header)(endianness=volume.header.endianness)
    header.set_data_dtype(volume.dtype)
    header.set_data_shape(volume.shape)
    header.set_zooms(np.linalg.norm(volume.affine[:3, :3], axis=0))
    header.set_xyzt_units("mm", "sec")
    header.set_sform(volume.affine, code="scanner")
    header.set_qform(volume.affine, code="scanner", strip_shears=True)
    header.set_slope_inter(*_scaling(volume.header))
    header["magic"] = volume.header["magic"]
    no_extension = bytes(4)
    header.set_data_offset(len(header.binaryblock) + len(no_extension))
    return bytes(header.binaryblock) + no_extension


def _start(content: bytes) -> bytes:
    """The first bytes, decompressed if needed."""
    return start(content, _START) if content.startswith(GZIP) else content[:_START]


def _has(start: bytes, kinds: dict[int, tuple[int, bytes]]) -> bool:
    for size, (at, magic) in kinds.items():
        if start[:4] in {size.to_bytes(4, "little"), size.to_bytes(4, "big")}:
            return start[at : at + len(magic)] == magic
    return False


def _is_header_alone(start: bytes) -> bool:
    """Whether the voxels are in a separate file: a NIfTI pair, or ANALYZE 7.5."""
    if _has(start, _PAIR):
        return True
    dimensions = {int.from_bytes(start[40:42], order) for order in ("little", "big")}
    return _has(start, {348: (344, _ANALYZE)}) and not dimensions.isdisjoint(range(1, 8))


def _open(content: bytes, limits: Limits) -> Volume:
    start = _start(content)
    if _is_header_alone(start):
        raise UnreadableImage("header_only", "This is only the header of a volume.")
    if not _has(start, _MAGIC):
        raise UnreadableImage("truncated", "The NIfTI file is damaged or incomplete.")
    with discreet("truncated", "The NIfTI header is damaged."):
        volume = _volume(start)
    _check_size(volume, limits)
    if not content.startswith(GZIP) and len(content) < volume.offset + volume.size:
        raise UnreadableImage("truncated", "The file holds fewer voxels than its header says.")
    return volume


def _check_size(volume: Volume, limits: Limits) -> None:
    # Whatever the stored type, a decoded voxel has two bytes, and twice that during cutting.
    decoded = 2 * math.prod(volume.shape)
    if max(volume.size, decoded) > limits.max_total_bytes or max(volume.shape) > _LONGEST_AXIS:
        raise UnreadableImage("too_many_pixels", "The volume has too many voxels.")


def _volume(start: bytes) -> Volume:
    kind = nib.Nifti2Header if start[4:8] == b"n+2\0" else nib.Nifti1Header
    # Extensions are not read; the voxels start at their end.
    header = kind(start[: kind.sizeof_hdr], check=False)  # type: ignore[no-untyped-call]
    if int(header["intent_code"]) in _SURFACES:
        raise UnreadableImage("cifti", "CIFTI files hold values of surfaces, not images.")
    shape = header.get_data_shape()
    _check_kind(shape, header.get_data_dtype())
    axes = _axes(shape)
    offset = int(header["vox_offset"])
    if offset > _LAST_START:
        raise UnreadableImage("truncated", "The voxels start nowhere in the file.")
    return Volume(
        header=header,
        offset=offset if offset >= kind.sizeof_hdr else kind.single_vox_offset,
        shape=axes,
        dtype=header.get_data_dtype(),
        affine=affine_of(header, axes),
    )


def _axes(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return int(shape[0]), int(shape[1]), int(shape[2]) if len(shape) > 2 else 1


def _check_kind(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    if len(shape) < 2:
        raise UnreadableImage("truncated", "This is neither a volume nor a slice.")
    if min(shape) < 1:
        raise UnreadableImage("no_voxels", "The header gives an axis of the volume no voxels.")
    if any(extent != 1 for extent in shape[3:]):
        raise UnreadableImage(
            "four_dimensional", "Volumes with several points in time or directions are refused."
        )
    if dtype.fields is not None:
        raise UnreadableImage("colour_volume", "Colour volumes are not accepted.")
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise UnreadableImage(
            "unsupported", "Voxels of this type (complex or 128 bit) are refused."
        )


def _cut(volume: Volume, plane: str, limits: Limits) -> FileFacts:
    orientation = io_orientation(volume.affine)
    shape = [volume.shape[int(at)] for at in np.argsort(orientation[:, 0])]
    affine = volume.affine @ inv_ornt_aff(orientation, volume.shape)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    axis = PLANES.index(plane) if plane in PLANES else _acquired(shape, sizes)
    columns_axis = 1 if axis == 0 else 0
    rows_axis = 1 if axis == 2 else 2
    rows, columns = shape[rows_axis], shape[columns_axis]
    if shape[axis] > limits.max_slices:
        raise UnreadableImage("too_many_slices", f"At most {limits.max_slices} slices in a file.")
    if rows * columns > limits.max_pixels:
        raise UnreadableImage("too_many_pixels", "The slices have too many pixels.")
    if min(rows, columns) < limits.min_side:
        raise UnreadableImage("too_small", f"At least {limits.min_side} voxels on each side.")
    directions = -affine[:3, :3] / sizes * _RAS_TO_LPS[:, None]
    frames = []
    for index in range(shape[axis]):
        first = np.array([extent - 1.0 for extent in shape])
        first[axis] = index
        position = (affine[:3, :3] @ first + affine[:3, 3]) * _RAS_TO_LPS
        frames.append(
            FrameFacts(
                index=index,
                rows=rows,
                columns=columns,
                spacing=(float(sizes[rows_axis]), float(sizes[columns_axis])),
                geometry=Geometry(
                    _vector(position),
                    _vector(directions[:, columns_axis]),
                    _vector(directions[:, rows_axis]),
                ),
            )
        )
    return FileFacts(format="NIFTI", frames=tuple(frames), plane=PLANES[axis])


def _acquired(shape: list[int], sizes: npt.NDArray[np.float64]) -> int:
    """The axis to cut across for plane ``auto``; see :func:`inspect_nifti`."""
    if min(shape) < _THIN:
        # Of equally short axes the one from foot to head.
        return max(range(3), key=lambda axis: (-shape[axis], axis))
    coarsest = int(sizes.argmax())
    clearly = sizes[coarsest] > _ANISOTROPIC * np.delete(sizes, coarsest).max()
    return coarsest if clearly else 2


def _vector(numbers: npt.NDArray[np.float64]) -> Vector:
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def _shown(canonical: npt.NDArray[np.generic], axis: int, index: int) -> npt.NDArray[np.generic]:
    """One slice, in display orientation, of a volume with axes to right, front and head."""
    picture = np.moveaxis(canonical, axis, 0)[index]
    # Columns run from right to left or from front to back, rows downwards or backwards.
    return np.asarray(picture[::-1, ::-1].T)


def _scaling(header: nib.Nifti1Header) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0:
        return 1.0, 0.0
    return slope, intercept if np.isfinite(intercept) else 0.0


def _raw(content: bytes, volume: Volume) -> bytes | bytearray | memoryview:
    """The bytes of the voxels; not copied if the file is uncompressed."""
    if not content.startswith(GZIP):
        return memoryview(content)[volume.offset : volume.offset + volume.size]
    raw = bytearray()
    for piece in _voxels(pieces(content), volume):
        raw += piece
    return raw


def _voxels(unpacked: Iterable[bytes], volume: Volume) -> Iterator[bytes]:
    """The bytes of the voxels in pieces, at most as many as the header announces."""
    left, skip = volume.size, volume.offset
    for piece in unpacked:
        if skip >= len(piece):
            skip -= len(piece)
            continue
        wanted = piece[skip : skip + left]
        skip = 0
        left -= len(wanted)
        yield wanted
        if left == 0:
            return
    raise UnreadableImage("truncated", "The file holds fewer voxels than its header says.")
