"""Known but unsupported kinds of files, so that a refusal can name them."""

import io
import zipfile

from ml.imaging.pictures import brands

# Signatures as the makers of the formats publish them.
_STARTS = (
    ("seven_zip", b"7z\xbc\xaf\x27\x1c"),
    ("rar", b"Rar!\x1a\x07"),
    ("zstd", b"\x28\xb5\x2f\xfd"),
    ("gif", b"GIF87a"),
    ("gif", b"GIF89a"),
    ("office", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),  # before 2007
    ("office", b"{\\rtf"),
    ("video", b"\x1a\x45\xdf\xa3"),  # Matroska, WebM
    ("video", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),  # Windows Media
    ("video", b"\0\0\x01\xba"),  # MPEG
    ("video", b"\0\0\x01\xb3"),
    ("video", b"FLV\x01"),
)
_BMP_HEADERS = {12, 40, 52, 56, 64, 108, 124}  # bytes
_VIDEO_BRANDS = (b"iso", b"mp4", b"M4", b"qt", b"3g", b"avc1", b"dash", b"MSNV", b"f4v", b"hvc1")
_VIDEO_BOXES = {b"moov", b"mdat", b"wide"}
_TS_PACKET = 188  # bytes; MPEG transport streams
_OPEN_DOCUMENT = b"mimetypeapplication/vnd.oasis.opendocument"
_NAME = 30  # offset of the first file's name in a ZIP archive
_CONTENT_TYPES = "[Content_Types].xml"
_END = 2**16  # bytes at the end of an archive that are searched for this name
_MOST_ENTRIES = 5000


def kind_of(content: bytes) -> str | None:
    """The code of a known kind that is not supported, or None.

    One of ``seven_zip``, ``rar``, ``zstd``, ``gif``, ``bmp``, ``avif``, ``pdf``, ``office`` and
    ``video``.
    """
    for code, start in _STARTS:
        if content.startswith(start):
            return code
    if content.startswith(b"BM") and int.from_bytes(content[14:18], "little") in _BMP_HEADERS:
        return "bmp"
    if b"%PDF-" in content[:1024]:
        return "pdf"
    if is_office(content):
        return "office"
    named = brands(content)
    if named & {b"avif", b"avis"}:
        return "avif"
    return "video" if _is_video(content, named) else None


def is_office(content: bytes) -> bool:
    """Whether a ZIP archive is an Office or OpenDocument file."""
    if content[_NAME:].startswith(_OPEN_DOCUMENT):
        return True
    if not content.startswith(b"PK\x03\x04") or _CONTENT_TYPES.encode() not in content[-_END:]:
        return False
    if content.count(b"PK\x01\x02") > _MOST_ENTRIES:
        return False
    try:  # a document inside an archive contains that name too
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _CONTENT_TYPES in archive.namelist()
    except Exception:  # a damaged archive can raise anything at all in there
        return False


def _is_video(content: bytes, named: set[bytes]) -> bool:
    if content.startswith(b"RIFF") and content[8:12] == b"AVI ":
        return True
    if any(brand.startswith(_VIDEO_BRANDS) for brand in named) or content[4:8] in _VIDEO_BOXES:
        return True
    return len(content) > 2 * _TS_PACKET and content[: 3 * _TS_PACKET : _TS_PACKET] == b"G" * 3
