"""Check that the last scan of a JPEG or JPEG-LS frame ends with its picture.

Entropy-coded data have no length and no checksum: decoders fill in missing data and ignore extra
bytes. Bytes after a complete scan do not change the picture, but changes of its last bytes do.
This detects both errors, for any process with a decoder.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ml.errors import UnreadableImage

Decode = Callable[[bytes], npt.NDArray[np.generic]]

_END = b"\xff\xd9"
_NOISE = bytes(np.random.default_rng(8).integers(1, 255, 256, dtype=np.uint8))  # no 0xFF
_OTHER_NOISE = _NOISE[::-1]
_LAST = 3  # bytes; fewer may be just the padding of the last code


def ended_with_picture(frame: bytes, decode: Decode) -> bytes:
    """The frame, with its last scan cut to the bytes that its picture needs.

    Args:
        frame: from SOI to EOI, with nothing between the last scan and EOI.
        decode: raises if it cannot decode.

    Raises:
        UnreadableImage: ``truncated`` if the scan ends before the picture, so that a decoder would
            invent the rest.
    """
    body, shown = frame[: -len(_END)], decode(frame)

    def is_same(stream: bytes) -> bool:
        try:
            return np.array_equal(decode(stream + _END), shown)
        except Exception:  # a decoder can raise anything on noise
            return False

    def is_enough(length: int) -> bool:
        kept = body[:length]
        kept = kept[:-1] if kept.endswith(b"\xff") else kept  # its second byte was cut off
        return is_same(kept + _NOISE) and is_same(kept + _OTHER_NOISE)

    if not is_same(body + _NOISE):
        raise UnreadableImage("truncated", "A frame holds less than its header says.")
    if not is_enough(len(body) - _LAST):
        return frame
    least, most = 0, len(body) - _LAST
    while least < most:
        middle = (least + most) // 2
        if is_enough(middle):
            most = middle
        else:
            least = middle + 1
    kept = body[:most]
    kept = kept[:-1] if kept.endswith(b"\xff") else kept
    return kept + _END if is_same(kept) else frame
