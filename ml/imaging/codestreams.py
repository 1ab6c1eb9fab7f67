"""Read the size of compressed frames from their headers, to check it before decoding."""

from dataclasses import dataclass

_JPEG_START = b"\xff\xd8"
_JPEG2000_START = b"\xff\x4f\xff\x51"
_JP2_START = b"\x00\x00\x00\x0cjP  "
# ITU-T T.81, table B.1: frames of all processes, and T.87's SOF55 of JPEG-LS; C4, C8 and CC
# are other markers.
_FRAMES = (frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {0xF7}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
_MOST_SEGMENTS = 10_000


@dataclass(frozen=True)
class FrameSize:
    """The size that a decoder would allocate; ``bits`` is that of the widest component."""

    rows: int
    columns: int
    samples: int
    bits: int = 0


def frame_size(frame: bytes) -> FrameSize | None:
    """Size of a JPEG, JPEG-LS, JPEG 2000 or HTJ2K frame; None for any other."""
    try:
        if frame.startswith(_JPEG_START):
            return _jpeg(frame)
        return _jpeg2000(_codestream(frame))
    except IndexError:
        return None


def _jpeg(frame: bytes) -> FrameSize | None:
    at = 2
    for _ in range(_MOST_SEGMENTS):
        if frame[at] != 0xFF:
            return None
        marker = frame[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _FRAMES:
            rows, columns = _number(frame, at + 5, 2), _number(frame, at + 7, 2)
            return FrameSize(rows, columns, frame[at + 9], frame[at + 4])
        elif marker in _WITHOUT_LENGTH:
            at += 2
        else:
            at += 2 + _number(frame, at + 2, 2)
    return None


def _codestream(frame: bytes) -> bytes:
    """The start of a JPEG 2000 codestream, without the boxes of a JP2 file (T.800 Annex I)."""
    if not frame.startswith(_JP2_START):
        return frame[:64]
    at = 0
    for _ in range(_MOST_SEGMENTS):
        length, start = _number(frame, at, 4), at + 8
        if length == 1:
            length, start = _number(frame, at + 8, 8), at + 16
        if frame[at + 4 : at + 8] == b"jp2c":
            return frame[start : start + 64]
        if length < 8:
            break
        at += length
    return b""


def _jpeg2000(frame: bytes) -> FrameSize | None:
    """The SIZ segment, ITU-T T.800 A.5.1: size of the reference grid less the image's offset."""
    if not frame.startswith(_JPEG2000_START):
        return None
    width, height, left, top = (_number(frame, at, 4) for at in (8, 12, 16, 20))
    samples = _number(frame, 40, 2)
    # The highest bit tells whether values are signed. ``frame`` may be only the start.
    depths = [(frame[at] & 0x7F) + 1 for at in range(42, min(42 + 3 * samples, len(frame)), 3)]
    return FrameSize(height - top, width - left, samples, max(depths, default=0))


def _number(frame: bytes, at: int, size: int) -> int:
    if at + size > len(frame):
        raise IndexError(at)
    return int.from_bytes(frame[at : at + size], "big")
