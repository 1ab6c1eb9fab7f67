"""The registry of file readers, chosen by content and never by file name.

A format joins by adding a :class:`Reader` to ``_READERS``: how to recognise its content, what
its header says, and how to turn the whole content into slices.
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
    """How one format is recognised, judged and decoded; the text names a plane (of volumes).

    Attributes:
        decode: gives the slices, which may be decoded only when they are asked for.
        footprint: the memory that it takes, told from the header.
        as_nifti: of volumes, a compressed NIfTI file with geometry and values and nothing else.
        pages: of pictures, those that can be decoded one by one.
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
    """A format of volumes that is read as NIfTI."""

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
    # Behind DICOM, whose preamble may make a file of slides a TIFF as well.
    _picture("TIFF", tiffs.decode_tiff, tiffs.recognises, tiffs.Tiff),
    _volume("MGH", mgh.recognises, mgh.open_mgh),
    _volume("NRRD", nrrd_file.recognises, nrrd_file.open_nrrd),
)
# As words for a person. Archives are no format of images, but hold some.
ACCEPTED_FORMATS: tuple[str, ...] = (
    "PNG", "JPEG", "TIFF", "WebP", "HEIC", "DICOM", "NIfTI", "MGH", "NRRD",
    "ZIP", "tar", "tar.gz", "tar.bz2", "tar.xz",
)  # fmt: skip
# Of what is kept as a PNG of its pixels.
PICTURE_FORMATS: tuple[str, ...] = ("PNG", "JPEG", "TIFF", "WEBP", "HEIF")


def sniff(content: bytes) -> Reader:
    """Return the reader for ``content``.

    Raises:
        UnreadableImage: ``empty``, a kind that is known (:mod:`ml.imaging.foreign`), or
            ``unsupported``.
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
    """The accepted formats as words for a message."""
    return ", ".join(ACCEPTED_FORMATS)


def inspect(content: bytes, limits: Limits | None = None, *, plane: str = "auto") -> FileFacts:
    """What the header of one file says; pixels of DICOM and volumes are not decoded.

    Args:
        plane: in which plane a volume is cut: ``auto``, ``axial``, ``coronal``,
            ``sagittal``.

    Raises:
        UnreadableImage: with the reason, for everything that is not acceptable.
    """
    return sniff(content).inspect(content, limits or Limits(), plane)


def footprint(content: bytes) -> Footprint:
    """The memory that one file takes beside its own bytes; nothing is decoded."""
    try:
        reader = sniff(content)
    except UnreadableImage:
        return footprints.of_unknown(content)
    return reader.footprint(content)


def open_bytes(
    content: bytes, limits: Limits | None = None, *, plane: str = "auto"
) -> Sequence[Slice]:
    """Open the content of one file; slices of volumes are decoded when they are asked for.

    Raises:
        UnreadableImage: with the reason, for everything that is not an acceptable image; also
            when a slice is asked for whose pixels are damaged.
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
