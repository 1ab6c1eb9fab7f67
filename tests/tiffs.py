"""TIFF files of any kind, also of kinds that no library writes: uncompressed, one strip a page."""

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

_CODES = {"u": 1, "i": 2, "f": 3}  # TIFF 6.0, SampleFormat


def as_tiff(
    *pages: npt.NDArray[Any],
    tags: Mapping[int, int | Sequence[int] | bytes] | None = None,
    each: Sequence[Mapping[int, int]] = (),
    big: bool = False,
    order: str = "<",
) -> bytes:
    """A TIFF file.

    Args:
        pages: each (height, width) or (height, width, channels).
        tags: of all pages, in place of those that follow from the pixels.
        each: of each page.
        big: as BigTIFF.
        order: ``<`` or ``>``.
    """
    mark = b"II" if order == "<" else b"MM"
    size = struct.Struct(f"{order}{'Q' if big else 'I'}")
    content = bytearray(mark + struct.pack(f"{order}H", 43 if big else 42))
    content += struct.pack(f"{order}HH", 8, 0) if big else b""
    link = len(content)
    content += size.pack(0)
    for number, pixels in enumerate(pages):
        height, width, *channels = pixels.shape
        samples = channels[0] if channels else 1
        data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
        start = len(content)
        content += data + bytes(len(data) % 2)
        entries: dict[int, int | Sequence[int] | bytes] = {
            256: width, 257: height, 258: [8 * pixels.itemsize] * samples, 259: 1,
            262: 2 if samples >= 3 else 1, 273: start, 277: samples, 278: height,
            279: len(data), 339: [_CODES[pixels.dtype.kind]] * samples,
            **(tags or {}), **(each[number] if each else {}),
        }  # fmt: skip
        values = {tag: _values(entries[tag], order) for tag in sorted(entries)}
        offsets = {}
        for tag, (_kind, _count, value) in values.items():
            if len(value) > size.size:
                offsets[tag] = len(content)
                content += value + bytes(len(value) % 2)
        content[link : link + size.size] = size.pack(len(content))
        content += struct.pack(f"{order}{'Q' if big else 'H'}", len(values))
        for tag, (kind, count, value) in values.items():
            content += struct.pack(f"{order}HH", tag, kind) + size.pack(count)
            content += size.pack(offsets[tag]) if tag in offsets else value.ljust(size.size, b"\0")
        link = len(content)
        content += size.pack(0)
    return bytes(content)


def _values(value: int | Sequence[int] | bytes, order: str) -> tuple[int, int, bytes]:
    """Type, count and bytes of an entry."""
    if isinstance(value, bytes):
        return 2, len(value), value
    if isinstance(value, int):
        return 4, 1, struct.pack(f"{order}I", value)
    return 3, len(value), struct.pack(f"{order}{len(value)}H", *value)
