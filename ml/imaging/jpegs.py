"""Check that a JPEG has all data that its header announces; decoders silently fill in the rest.

Entropy-coded data have no checksum. Bytes appended to them must not change the picture, and
changes of their last bytes must. This detects pictures that end too early or too late, also if the
end marker was repaired or a damaged byte has shifted the data after it.
"""

import io
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL.JpegImagePlugin import JpegImageFile

from ml.errors import UnreadableImage

_START_OF_SCAN, _END = 0xDA, 0xD9
# ITU-T T.81, table B.1. Arithmetic coding may omit zeros at its end, so it is not checked.
_SEQUENTIAL, _PROGRESSIVE = frozenset({0xC0, 0xC1}), 0xC2
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# A marker that ends a scan: no stuffed byte, restart or fill byte.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_COEFFICIENTS = 64
_LAST = 24  # last bytes of a scan that must change the picture
_LEAST = 256  # bytes of the smallest scan that is checked
_NOISE = bytes(np.random.default_rng(8).integers(1, 255, 256, dtype=np.uint8))  # no 0xFF
_OTHER_NOISE = _NOISE[::-1]  # a flat picture can look the same after the first noise
_LARGE = 4_000_000  # pixels above which a picture is compared at an eighth of its size
_MOST_SEGMENTS = 10_000


@dataclass(frozen=True)
class _Layout:
    """The end of the first picture of a file.

    Attributes:
        process: marker of its frame.
        start, end: of the data of its last scan.
        complete: whether its scans contain all bits of all coefficients.
    """

    process: int
    start: int
    end: int
    complete: bool


def check_whole(content: bytes) -> None:
    """Compare the data of the first picture of a JPEG file with its header.

    Raises:
        UnreadableImage: ``truncated`` if data are missing, ``header_lies`` if there are too many.
    """
    layout = _layout(content)
    if layout is None or not layout.complete:
        raise UnreadableImage("truncated", "The JPEG file is damaged or incomplete.")
    if layout.process not in _SEQUENTIAL and layout.process != _PROGRESSIVE:
        return
    stream, end = content[: layout.end], b"\xff\xd9"
    shown = _look(stream + end)
    if not np.array_equal(shown, _look(stream + _NOISE + end)):
        raise UnreadableImage("truncated", "The JPEG file holds less than its header says.")
    # For a nearly empty picture with minimal tables noise decodes to the same picture.
    judged = layout.process in _SEQUENTIAL and layout.end - layout.start >= _LEAST
    if not judged or not stream[-_LAST:].strip(b"\0\xff"):  # only padding
        return
    kept = stream[:-_LAST]
    kept = kept[:-1] if kept.endswith(b"\xff") else kept  # its second byte was cut off
    changed = (_look(kept + noise + end) for noise in (_NOISE, _OTHER_NOISE))
    if all(np.array_equal(shown, one) for one in changed):
        raise UnreadableImage("header_lies", "The JPEG file holds more than its header says.")


def _look(content: bytes) -> npt.NDArray[np.uint8]:
    """The pixels; for large pictures those of a small copy."""
    # Not Image.open, which would follow an index of further pictures.
    with JpegImageFile(io.BytesIO(content)) as image:
        if image.width * image.height > _LARGE:
            image.draft(image.mode, (image.width // 8, image.height // 8))
        return np.asarray(image)


def _layout(content: bytes) -> _Layout | None:
    """The layout of the first picture; None if the markers are inconsistent."""
    at, start, process = 2, 2, 0
    missing: dict[int, list[int]] = {}
    for _ in range(_MOST_SEGMENTS):
        if content[at : at + 1] != b"\xff" or at + 1 >= len(content):
            return None
        marker = content[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == _END:
            done = all(bits == 0 for known in missing.values() for bits in known)
            return _Layout(process, start, at, process != 0 and bool(missing) and done)
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        segment = content[at + 4 : at + 2 + length]
        if marker in _FRAMES:
            process = marker
            missing = {one: [-1] * _COEFFICIENTS for one in segment[6::3]}
        at += 2 + length
        if marker == _START_OF_SCAN:
            _note(segment, missing, progressive=process == _PROGRESSIVE)
            start, following = at, _MARKER.search(content, at)
            if following is None:
                return None
            at = following.start()
    return None


def _note(segment: bytes, missing: dict[int, list[int]], *, progressive: bool) -> None:
    """Update the missing bits of each component's coefficients after a scan (T.81 G.1.1.1)."""
    if not segment or len(segment) < 2 * segment[0] + 4:
        return
    first, last, bits = segment[-3], segment[-2], segment[-1] & 0x0F
    if not progressive:
        first, last, bits = 0, _COEFFICIENTS - 1, 0
    for component in segment[1 : 1 + 2 * segment[0] : 2]:
        for coefficient in range(first, min(last + 1, _COEFFICIENTS)):
            if component in missing:
                missing[component][coefficient] = bits
