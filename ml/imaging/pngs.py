"""Check that a PNG has all rows that its header announces; decoders leave missing ones black."""

import zlib

from ml.errors import UnreadableImage

_SIGNATURE = 8  # bytes
_LENGTH_OF_HEAD = 13  # bytes
# PNG specification, section 11.2.1: samples per pixel by colour type.
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Section 8.2, Adam7: first column, first row, and the steps between columns and rows.
_PASSES = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4),
    (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
)  # fmt: skip
_PIECE = 2**20


def check_whole(content: bytes) -> None:
    """Compare the size of a PNG's inflated data with its header.

    Raises:
        UnreadableImage: ``truncated`` if data or the end are missing, ``header_lies`` if there
            are too many.
    """
    head, data = _chunks(content)
    wanted, found = _size(head), 0
    inflater = zlib.decompressobj()
    for chunk in data:
        rest: bytes = chunk
        while rest and found <= wanted and not inflater.eof:
            try:
                found += len(inflater.decompress(rest, _PIECE))
            except zlib.error:
                raise _damaged() from None
            rest = inflater.unconsumed_tail
    while found <= wanted and (piece := inflater.decompress(b"", _PIECE)):
        found += len(piece)
    if found < wanted:
        raise _damaged()
    if found > wanted:
        raise UnreadableImage("header_lies", "The PNG file holds more than its header says.")


def _chunks(content: bytes) -> tuple[bytes, list[bytes]]:
    """The IHDR data, and the pieces of the compressed data."""
    at, head = _SIGNATURE, b""
    data: list[bytes] = []
    while True:
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        body = content[at + 8 : at + 8 + length]
        if len(kind) < 4 or len(body) < length:
            raise _damaged()
        if kind == b"IEND":
            return head, data
        if kind == b"IHDR":
            head = body
        elif kind == b"IDAT":
            data.append(body)
        at += 12 + length


def _size(head: bytes) -> int:
    """Bytes of all rows, each with its filter byte."""
    width, height = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:8], "big")
    if len(head) < _LENGTH_OF_HEAD or head[9] not in _SAMPLES:
        raise _damaged()
    bits = head[8] * _SAMPLES[head[9]]
    passes = _PASSES if head[12] else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def _damaged() -> UnreadableImage:
    return UnreadableImage("truncated", "The PNG file is damaged or incomplete.")
