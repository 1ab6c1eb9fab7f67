"""The registry of file readers, chosen by content and never by file name.

To add a format, add a :class:`Reader` to ``_READERS``: how to recognise its content, how to read
its header, and how to decode the content into slices.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml.errors import UnreadableImage
from ml.imaging import (
    dicom,
    dicom_file,
    dicom_pixels,
    footprints,
    mgh,
    nifti,
    nrrd_file,
    pictures,
    tiffs,
)
from ml.imaging.facts import FileFacts, FrameFacts
from ml.imaging.footprints import Footprint
from ml.imaging.foreign import kind_of
from ml.imaging.limits import NO_LIMITS, Limits
from ml.imaging.slices import Slice


@dataclass(frozen=True)
class Reader:
    """How one format is recognised, checked and decoded; text arguments are planes of volumes.

    Attributes:
        decode: returns the slices, which may be decoded lazily.
        footprint: the memory that it takes, estimated from the header.
        as_nifti: for volumes, a compressed NIfTI file with only geometry and values.
        pages: for pictures, the pages that can be decoded one by one.
    """

    format: str
    recognises: Callable[[bytes], bool]
    inspect: Callable[[bytes, Limits, str], FileFacts]
    decode: Callable[[bytes, Limits, str], Sequence[Slice]]
    footprint: Callable[[bytes], Footprint] = footprints.of_unknown
    as_nifti: Callable[[bytes, Limits], bytes] | None = None
    pages: Callable[[bytes, Limits], tiffs.Tiff] | None = None


def _picture(
    format: str,
    decode: Callable[[bytes, Limits], list[Slice]],
    recognises: Callable[[bytes], bool],
    pages: Callable[[bytes, Limits], tiffs.Tiff] | None = None,
) -> Reader:
    def facts(content: bytes, limits: Limits, _plane: str) -> FileFacts:
        shapes = [one.pixels.shape[:2] for one in decode(content, limits)]
        frames = (FrameFacts(number, *shape) for number, shape in enumerate(shapes))
        return FileFacts(format=format, frames=tuple(frames))

    return Reader(
        format=format,
        recognises=recognises,
        inspect=facts,
        decode=lambda content, limits, _plane: decode(content, limits),
        footprint=footprints.of_picture,
        pages=pages,
    )


def _volume(
    format: str,
    recognises: Callable[[bytes], bool],
    opened: Callable[[bytes, Limits], tuple[nifti.Volume, Iterator[bytes]]],
) -> Reader:
    """The reader of a volume format that is read as NIfTI."""

    def facts(content: bytes, limits: Limits, plane: str) -> FileFacts:
        volume, _voxels = opened(content, limits)
        return nifti.inspect_volume(volume, limits, plane)

    def footprint(content: bytes) -> Footprint:
        return footprints.of_volume(content, lambda: opened(content, NO_LIMITS)[0])

    def as_nifti(content: bytes, limits: Limits) -> bytes:
        return nifti.nifti_of(*opened(content, limits))

    return Reader(
        format=format,
        recognises=recognises,
        inspect=facts,
        decode=lambda content, limits, plane: nifti.decode_nifti(
            as_nifti(content, limits), limits, plane
        ),
        footprint=footprint,
        as_nifti=as_nifti,
    )


_READERS: tuple[Reader, ...] = (
    _picture("PNG", pictures.decode_png, lambda content: content.startswith(b"\x89PNG\r\n\x1a\n")),
    _picture("JPEG", pictures.decode_jpeg, lambda content: content.startswith(b"\xff\xd8\xff")),
    _picture("WEBP", pictures.decode_webp, pictures.is_webp),
    _picture("HEIF", pictures.decode_heic, pictures.is_heic),
    Reader(
        "DICOM",
        dicom_file.recognises,
        lambda content, limits, _plane: dicom.inspect_dicom(
            dicom_file.read_dataset(content, limits), limits
        ),
        lambda content, limits, _plane: dicom_pixels.decode_dicom(content, limits),
        footprints.of_dicom,
    ),
    Reader(
        "NIFTI",
        nifti.recognises,
        nifti.inspect_nifti,
        nifti.decode_nifti,
        footprints.of_nifti,
        nifti.strip_nifti,
    ),
    # After DICOM: the preamble of a whole-slide DICOM file may also be a TIFF header.
    _picture("TIFF", tiffs.decode_tiff, tiffs.recognises, tiffs.Tiff),
    _volume("MGH", mgh.recognises, mgh.open_mgh),
    _volume("NRRD", nrrd_file.recognises, nrrd_file.open_nrrd),
)
# Names for users. Archives are listed because they may contain images.
ACCEPTED_FORMATS: tuple[str, ...] = (
    "PNG", "JPEG", "TIFF", "WebP", "HEIC", "DICOM", "NIfTI", "MGH", "NRRD",
    "ZIP", "tar", "tar.gz", "tar.bz2", "tar.xz",
)  # fmt: skip
# Formats of files that are stored as a PNG of their pixels.
PICTURE_FORMATS: tuple[str, ...] = ("PNG", "JPEG", "TIFF", "WEBP", "HEIF")


def sniff(content: bytes) -> Reader:
    """Return the reader for ``content``.

    Raises:
        UnreadableImage: ``empty``, ``unsupported``, or the code of a known kind
            (:mod:`ml.imaging.foreign`).
    """
    if not content:
        raise UnreadableImage("empty", "The file is empty.")
    for reader in _READERS:
        if reader.recognises(content):
            return reader
    raise UnreadableImage(
        kind_of(content) or "unsupported",
        f"This is not an image that can be read; accepted are {accepted()}.",
    )


def accepted() -> str:
    """The accepted formats as text for a message."""
    return ", ".join(ACCEPTED_FORMATS)


def inspect(content: bytes, limits: Limits | None = None, *, plane: str = "auto") -> FileFacts:
    """The facts of one file's header; pixels of DICOM and volumes are not decoded.

    Args:
        plane: the plane in which a volume is cut: ``auto``, ``axial``, ``coronal``,
            ``sagittal``.

    Raises:
        UnreadableImage: with the reason, for everything that is not acceptable.
    """
    return sniff(content).inspect(content, limits or Limits(), plane)


def footprint(content: bytes) -> Footprint:
    """The memory that one file takes beside its own bytes, estimated without decoding."""
    try:
        reader = sniff(content)
    except UnreadableImage:
        return footprints.of_unknown(content)
    return reader.footprint(content)


def open_bytes(
    content: bytes, limits: Limits | None = None, *, plane: str = "auto"
) -> Sequence[Slice]:
    """Open the content of one file; slices of volumes are decoded on access.

    Raises:
        UnreadableImage: with the reason, for everything that is not an acceptable image; also
            on access to a slice with damaged pixels.
    """
    return sniff(content).decode(content, limits or Limits(), plane)


def read_bytes(content: bytes, limits: Limits | None = None, *, plane: str = "auto") -> list[Slice]:
    """Decode the content of one file into its slices, in the file's order.

    Raises:
        UnreadableImage: with the reason, for everything that is not a complete, acceptable image.
    """
    return list(open_bytes(content, limits, plane=plane))


def read_path(path: Path, limits: Limits | None = None, *, plane: str = "auto") -> list[Slice]:
    """Decode one file; see :func:`read_bytes`.

    Raises:
        UnreadableImage: also for a file that is missing or over the size limit (``too_large``).
    """
    return read_bytes(load(path, limits), limits, plane=plane)


def load(path: Path, limits: Limits | None = None) -> bytes:
    """The content of a file.

    Raises:
        UnreadableImage: ``missing`` or ``too_large``.
    """
    limits = limits or Limits()
    try:
        if path.stat().st_size > limits.max_bytes:
            raise UnreadableImage(
                "too_large", f"The file is larger than {limits.max_bytes // 2**20} MB."
            )
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage("missing", f"The file cannot be opened: {error.strerror}.") from error
