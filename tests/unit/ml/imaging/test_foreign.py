"""Files that are known and not read are refused by their names."""

import io
import zipfile

import pytest
from PIL import Image

from ml.errors import UnreadableImage
from ml.imaging import Limits, is_archive, members, sniff


def picture(image_format: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, image_format)
    return buffer.getvalue()


def zipped(*names: str, content: bytes = b"text") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return buffer.getvalue()


def media(brand: bytes, *compatible: bytes) -> bytes:
    size = 16 + 4 * len(compatible)
    return size.to_bytes(4, "big") + b"ftyp" + brand + bytes(4) + b"".join(compatible) + bytes(99)


WORD = zipped("[Content_Types].xml", "word/document.xml", "word/media/image1.png")
WRITER = zipped("mimetype", content=b"application/vnd.oasis.opendocument.text")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"7z\xbc\xaf\x27\x1c\0\4" + bytes(32), "seven_zip"),
        (b"Rar!\x1a\x07\0", "rar"),
        (b"Rar!\x1a\x07\x01\0", "rar"),
        (b"\x28\xb5\x2f\xfd" + bytes(20), "zstd"),
        (picture("BMP"), "bmp"),
        (picture("GIF"), "gif"),
        (media(b"avif", b"mif1"), "avif"),
        (b"%PDF-1.7\n", "pdf"),
        (b"\n\n%PDF-1.4\n", "pdf"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "office"),
        (b"{\\rtf1\\ansi}", "office"),
        (WORD, "office"),
        (WRITER, "office"),
        (media(b"isom", b"mp41"), "video"),
        (media(b"qt  "), "video"),
        (b"\0\0\0\x08wide" + bytes(20), "video"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
        (b"\x1a\x45\xdf\xa3" + bytes(40), "video"),
        (b"\0\0\x01\xba" + bytes(40), "video"),
        ((b"G" + bytes(187)) * 3, "video"),
        (b"BM is how this text begins", "unsupported"),
        (b"RIFF\0\0\0\0WAVEfmt ", "unsupported"),
        (media(b"crx "), "unsupported"),
    ],
)
def test_kinds_are_named(content: bytes, code: str) -> None:
    with pytest.raises(UnreadableImage) as caught:
        sniff(content)
    assert caught.value.code == code


def test_a_document_is_no_archive_of_pictures_and_may_lie_in_one() -> None:
    assert not is_archive(WORD)
    assert not is_archive(WRITER)
    outer = zipped("report.docx", content=WORD)
    assert is_archive(outer)
    assert list(members(outer, Limits())) == [("report.docx", WORD)]
