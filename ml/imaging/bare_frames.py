"""Rebuild compressed frames from only those parts that the picture needs.

A codestream can hold more than its picture: comments, application segments with EXIF and
thumbnails, boxes around it, unused tables, bytes after its end. Each could name the patient. So a
frame is never copied: its parts are parsed one by one and written again.
"""

import re

from ml.errors import UnreadableImage
from ml.imaging.jpeg2000 import bare_jpeg2000, is_jpeg2000

_START, _END, _SCAN, _LINES = 0xD8, 0xD9, 0xDA, 0xDC
_HUFFMAN, _ARITHMETIC, _QUANTISATION, _RESTART = 0xC4, 0xCC, 0xDB, 0xDD
_LS_FRAME, _LS_PARAMETERS = 0xF7, 0xF8
# ITU-T T.81, table B.1: frames of all non-hierarchical processes.
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA, 0xCB, _LS_FRAME})
_APPLICATION = range(0xE0, 0xF0)
_COMMENT = 0xFE
# A marker that ends a scan: no stuffed byte, restart or fill byte; T.87 stuffs a bit instead.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_LS_MARKER = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")
_MOST_SEGMENTS = 10_000
_JFIF = b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"  # version 1.01, square pixels, no thumbnail

_RLE_HEADER = 64
_RLE_MOST_SEGMENTS = 15


def bare_frame(frame: bytes) -> bytes:
    """A JPEG, JPEG-LS, JPEG 2000 or HTJ2K frame reduced to its picture.

    It decodes to the same values. Of the application segments only the colour transform is kept.

    Raises:
        UnreadableImage: ``truncated`` if the frame is none of these or cannot be parsed to its
            end.
    """
    if is_jpeg2000(frame):
        return bare_jpeg2000(frame)
    try:
        return _Jpeg(frame).rebuilt()
    except IndexError:
        raise _damaged() from None


def bare_rle(frame: bytes, planes: int, length: int) -> bytes:
    """An RLE frame (PS3.5 Annex G) reduced to the data of its planes.

    Args:
        planes: number of byte planes: samples per pixel times bytes per sample.
        length: bytes of one decoded plane.

    Raises:
        UnreadableImage: ``truncated`` if data are missing or the number of planes differs.
    """
    if len(frame) < _RLE_HEADER or int.from_bytes(frame[:4], "little") != planes:
        raise _damaged()
    if planes > _RLE_MOST_SEGMENTS:
        raise _damaged()
    offsets = [int.from_bytes(frame[4 * n : 4 * n + 4], "little") for n in range(1, planes + 1)]
    if offsets[0] < _RLE_HEADER or offsets != sorted(set(offsets)):
        raise _damaged()
    header = bytearray(planes.to_bytes(4, "little"))
    body = bytearray()
    for start, end in zip(offsets, [*offsets[1:], len(frame)], strict=True):
        header += (_RLE_HEADER + len(body)).to_bytes(4, "little")
        body += _plane(frame[start:end], length)
    return bytes(header.ljust(_RLE_HEADER, b"\0") + body)


def _plane(segment: bytes, length: int) -> bytes:
    """The runs of a segment up to ``length`` decoded bytes, padded to an even size."""
    bare = bytearray()
    at = 0
    while length > 0:
        if at >= len(segment):
            raise _damaged()
        head = segment[at]
        if head < 128:
            taken = min(head + 1, length)
            run = segment[at + 1 : at + 1 + taken]
            if len(run) < taken:
                raise _damaged()
            bare.append(taken - 1)
            bare += run
            at += head + 2
            length -= taken
        elif head > 128:
            taken = min(257 - head, length)
            if at + 1 >= len(segment):
                raise _damaged()
            if taken == 1:
                bare += bytes((0, segment[at + 1]))
            else:
                bare += bytes((257 - taken, segment[at + 1]))
            at += 2
            length -= taken
        else:
            at += 1  # a no-op
    return bytes(bare) + bytes(len(bare) % 2)


class _Jpeg:
    """Parses one JPEG or JPEG-LS image marker by marker."""

    def __init__(self, frame: bytes) -> None:
        self._frame = frame
        self._process = 0
        self._components: dict[int, int] = {}  # component -> quantisation table
        self._jfif = False
        self._transform: int | None = None
        self._ls_transform: int | None = None
        self._restart = b"\0\0"
        self._tables: dict[tuple[int, int], bytes] = {}
        self._written: dict[tuple[int, int], bytes] = {}
        self._out = bytearray()
        self._scans = 0

    def rebuilt(self) -> bytes:
        if not self._frame.startswith(b"\xff\xd8\xff"):
            raise _damaged()
        at = 2
        for _ in range(_MOST_SEGMENTS):
            if self._frame[at] != 0xFF:
                raise _damaged()
            marker = self._frame[at + 1]
            if marker == 0xFF:  # a fill byte
                at += 1
                continue
            if marker == _END:
                return self._finished()
            length = int.from_bytes(self._frame[at + 2 : at + 4], "big")
            payload = self._frame[at + 4 : at + 2 + length]
            if length < 2 or len(payload) != length - 2:
                raise _damaged()
            at += 2 + length
            if marker == _SCAN:
                at = self._scan(payload, at)
            else:
                self._segment(marker, payload)
        raise _damaged()

    def _segment(self, marker: int, payload: bytes) -> None:  # noqa: C901 - a table as code
        if marker in _FRAMES:
            self._begin(marker, payload)
        elif marker == _HUFFMAN:
            self._huffman(payload)
        elif marker == _QUANTISATION:
            self._quantisation(payload)
        elif marker == _ARITHMETIC and len(payload) % 2 == 0:
            for at in range(0, len(payload), 2):
                self._tables[_ARITHMETIC, payload[at]] = payload[at : at + 2]
        elif marker == _RESTART and len(payload) == 2:
            self._restart = payload
        elif marker == _LS_PARAMETERS and len(payload) == 11 and payload[0] == 1:
            self._tables[_LS_PARAMETERS, 0] = payload
        elif marker in _APPLICATION:
            self._application(marker, payload)
        elif marker == _LINES and len(payload) == 2:
            pass  # the frame's header has the number of lines already
        elif marker != _COMMENT:
            raise _damaged()

    def _begin(self, marker: int, payload: bytes) -> None:
        if self._process or len(payload) != 6 + 3 * payload[5]:
            raise _damaged()
        self._process = marker
        self._components = dict(zip(payload[6::3], payload[8::3], strict=True))
        self._write(marker, payload)

    def _huffman(self, payload: bytes) -> None:
        while payload:
            size = 17 + sum(payload[1:17])
            if len(payload) < size:
                raise _damaged()
            self._tables[_HUFFMAN, payload[0]] = payload[:size]
            payload = payload[size:]

    def _quantisation(self, payload: bytes) -> None:
        while payload:
            size = 129 if payload[0] >> 4 else 65
            if len(payload) < size:
                raise _damaged()
            self._tables[_QUANTISATION, payload[0] & 0x0F] = payload[:size]
            payload = payload[size:]

    def _application(self, marker: int, payload: bytes) -> None:
        """Keep what a decoder's choice of colour space depends on; drop text and thumbnails."""
        if marker == 0xE0 and payload.startswith(b"JFIF\0"):
            self._jfif = True
        elif marker == 0xEE and payload.startswith(b"Adobe") and len(payload) >= 12:
            self._transform = min(payload[11], 2)
        elif marker == 0xE8 and payload.startswith(b"mrfx") and len(payload) >= 5:
            self._ls_transform = payload[4]

    def _scan(self, payload: bytes, at: int) -> int:
        """Write one scan and the tables that it uses; return the end of its data."""
        count = payload[0]
        if not self._process or len(payload) != 4 + 2 * count:
            raise _damaged()
        pattern = _LS_MARKER if self._process == _LS_FRAME else _MARKER
        following = pattern.search(self._frame, at)
        if following is None or following.start() == at:
            raise _damaged()
        data = self._frame[at : following.start()]
        for key in self._used(payload[1 : 1 + 2 * count]):
            table = self._tables.get(key)
            if table is not None and self._written.get(key) != table:
                self._write(key[0], table)
                self._written[key] = table
        if self._written.get((_RESTART, 0), b"\0\0") != self._restart:
            self._write(_RESTART, self._restart)
            self._written[_RESTART, 0] = self._restart
        self._write(_SCAN, payload)
        self._scans += 1
        self._out += data if self._process == _LS_FRAME else data.rstrip(b"\xff")
        return following.start()

    def _used(self, pairs: bytes) -> list[tuple[int, int]]:
        """The tables of a scan, from its (component, tables) byte pairs."""
        if self._process == _LS_FRAME:
            return [(_LS_PARAMETERS, 0)]
        used = []
        for component, tables in zip(pairs[::2], pairs[1::2], strict=True):
            if component not in self._components:
                raise _damaged()
            used += [(_QUANTISATION, self._components[component])]
            for key in (tables >> 4, 0x10 | tables & 0x0F):
                used += [(_HUFFMAN, key), (_ARITHMETIC, key)]
        return used

    def _write(self, marker: int, payload: bytes) -> None:
        self._out += bytes((0xFF, marker)) + (len(payload) + 2).to_bytes(2, "big") + payload

    def _finished(self) -> bytes:
        body, self._out = self._out, bytearray(b"\xff\xd8")
        if not self._scans:
            raise _damaged()
        if len(self._components) >= 3:  # grey images have no colour transform
            if self._jfif:
                self._write(0xE0, _JFIF)
            if self._transform is not None:
                self._write(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes((self._transform,)))
            if self._ls_transform is not None and self._process == _LS_FRAME:
                self._write(0xE8, b"mrfx" + bytes((self._ls_transform,)))
        return bytes(self._out + body + b"\xff\xd9")


def _damaged() -> UnreadableImage:
    return UnreadableImage("truncated", "The pixels of the DICOM file are damaged.")
