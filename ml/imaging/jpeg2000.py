"""Strip comments from JPEG 2000 and HTJ2K codestreams (ITU-T T.800 Annex A, T.814).

Comments, packet lengths, tile-part lengths (optional for decoders) and the boxes of a JP2 file are
removed. A table of tile parts is rebuilt if there was one.
"""

from ml.errors import UnreadableImage

_CODESTREAM = b"\xff\x4f\xff\x51"
_JP2 = b"\x00\x00\x00\x0cjP  "
_PALETTE = frozenset({b"pclr", b"cmap"})
_SIZE, _TILE_PART, _DATA, _END = 0xFF51, 0xFF90, 0xFF93, 0xFFD9
_TILE_LENGTHS = 0xFF55
# COD, COC, QCD, QCC, RGN, POC, PPM, CAP, PRF, CPF: the picture depends on them.
_MAIN = frozenset(
    {_SIZE, 0xFF52, 0xFF53, 0xFF5C, 0xFF5D, 0xFF5E, 0xFF5F, 0xFF60, 0xFF50, 0xFF56, 0xFF59}
)
_TILE = frozenset({0xFF52, 0xFF53, 0xFF5C, 0xFF5D, 0xFF5E, 0xFF5F, 0xFF61})  # and PPT
# TLM, PLM, PLT, CRG, COM
_LEFT_OUT = frozenset({_TILE_LENGTHS, 0xFF57, 0xFF58, 0xFF63, 0xFF64})
_CODING, _HIGH_THROUGHPUT = b"\xff\x52", b"\xff\x50"
_OWN_PRECINCTS = 1  # bit of Scod, T.800 table A.13
_MOST_PACKETS = 256
_ZEROS = 64  # bytes; coded data contain no such run
_MOST_PARTS = 65535 * 8
_MOST_IN_TABLE = 10_000


def is_jpeg2000(frame: bytes) -> bool:
    """Whether it is a codestream or a JP2 file that contains one."""
    return frame.startswith((_CODESTREAM, _JP2))


def bare_jpeg2000(frame: bytes) -> bytes:
    """The codestream from SOC to EOC, reduced to its picture.

    Raises:
        UnreadableImage: ``truncated`` if it cannot be parsed to its end.
    """
    stream = _unboxed(frame) if frame.startswith(_JP2) else frame
    header, at, had_lengths = _segments(stream, 2, _MAIN, _TILE_PART)
    if not header.startswith(_SIZE.to_bytes(2, "big")):
        raise _damaged()
    parts: list[tuple[bytes, bytes]] = []  # index of the tile, tile part
    for _ in range(_MOST_PARTS):
        marker = _number(stream, at, 2)
        if marker == _END:
            break
        if marker != _TILE_PART:
            raise _damaged()
        part, at = _tile_part(stream, at)
        parts.append((part[4:6], part))
    else:
        raise _damaged()
    if not parts:
        raise _damaged()
    lengths = _table(parts) if had_lengths else b""
    body = b"".join(part for _tile, part in parts)
    return stream[:2] + header + lengths + body + b"\xff\xd9"


def has_gap(frame: bytes) -> bool:
    """Whether zeros replace data, as in a file that was not written to its end.

    Decoders accept such files. An empty packet is one zero byte (T.800 B.10.3), so a stream of
    many packets is not checked, nor is HTJ2K, which stores some bits uncoded.
    """
    start, end = frame.find(_CODESTREAM), frame.find(b"\xff\x90")
    if start < 0 or end < 0:
        return False
    header = frame[start:end]
    at = header.find(_CODING)
    if at < 0 or len(header) < at + 10 or _HIGH_THROUGHPUT in header:
        return False
    tiles = frame.count(b"\xff\x90")
    layers = int.from_bytes(header[at + 6 : at + 8], "big")
    packets = tiles * layers * _number(header, 40, 2) * (header[at + 9] + 1)
    if header[at + 4] & _OWN_PRECINCTS or packets > _MOST_PACKETS:
        return False
    return bytes(_ZEROS + packets) in frame[end:]


def _unboxed(frame: bytes) -> bytes:
    """The codestream in a JP2 file (T.800 Annex I)."""
    at = 0
    while at < len(frame):
        length, kind, start = _number(frame, at, 4), frame[at + 4 : at + 8], at + 8
        if length == 1:
            length, start = _number(frame, at + 8, 8), at + 16
        elif length == 0:  # extends to the end of the file
            length = len(frame) - at
        end = at + length
        if length < start - at or end > len(frame):
            break
        if kind == b"jp2h" and any(word in frame[start:end] for word in _PALETTE):
            break  # the codestream's values are not the picture's values
        if kind == b"jp2c" and frame.startswith(_CODESTREAM, start):
            return frame[start:end]
        at = end
    raise _damaged()


def _segments(
    stream: bytes, at: int, allowed: frozenset[int], until: int
) -> tuple[bytes, int, bool]:
    """The allowed marker segments, the offset of ``until``, and whether there was a TLM."""
    kept = bytearray()
    had_lengths = False
    while (marker := _number(stream, at, 2)) != until:
        length = _number(stream, at + 2, 2)
        end = at + 2 + length
        if length < 2 or end > len(stream):
            raise _damaged()
        if marker in allowed:
            _check_length(marker, stream[at + 4 : end])
            kept += stream[at:end]
        elif marker not in _LEFT_OUT:
            raise _damaged()
        had_lengths = had_lengths or marker == _TILE_LENGTHS
        at = end
    return bytes(kept), at, had_lengths


def _check_length(marker: int, payload: bytes) -> None:
    """Refuse a segment that is longer than its content requires (T.800 A.5.1, A.6.1)."""
    wanted = len(payload)
    if marker == _SIZE:
        wanted = 36 + 3 * _number(payload, 34, 2)
    elif marker == 0xFF52:
        wanted = 10 + (payload[5] + 1 if payload[0] & 1 else 0)
    if len(payload) != wanted:
        raise _damaged()


def _tile_part(stream: bytes, start: int) -> tuple[bytes, int]:
    """A tile part with its new length, and the offset of the next one (T.800 A.4.2)."""
    if _number(stream, start + 2, 2) != 10:
        raise _damaged()
    length = _number(stream, start + 6, 4)
    header, at, _ = _segments(stream, start + 12, _TILE, _DATA)
    if length:  # noqa: SIM108
        end = start + length
    else:  # the last one ends with the codestream: packets contain no byte pair above FF8F
        end = stream.find(b"\xff\xd9", at)
    if end < at + 2 or end + 2 > len(stream):
        raise _damaged()
    body = header + stream[at:end]
    return stream[start : start + 6] + (12 + len(body)).to_bytes(4, "big") + stream[
        start + 10 : start + 12
    ] + body, end


def _table(parts: list[tuple[bytes, bytes]]) -> bytes:
    """TLM segments: the index of each tile part in two bytes, its length in four (A.7.1)."""
    table = bytearray()
    for number, first in enumerate(range(0, len(parts), _MOST_IN_TABLE)):
        rows = b"".join(
            tile + len(part).to_bytes(4, "big")
            for tile, part in parts[first : first + _MOST_IN_TABLE]
        )
        table += b"\xff\x55" + (4 + len(rows)).to_bytes(2, "big")
        table += bytes((number & 0xFF, 0x60)) + rows
    return bytes(table)


def _number(stream: bytes, at: int, size: int) -> int:
    if at + size > len(stream):
        raise _damaged()
    return int.from_bytes(stream[at : at + size], "big")


def _damaged() -> UnreadableImage:
    return UnreadableImage("truncated", "The pixels of the DICOM file are damaged.")
