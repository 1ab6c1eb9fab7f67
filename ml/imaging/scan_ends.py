"""Whether the last scan of a JPEG or JPEG-LS frame ends where its picture does.

Entropy-coded data have no length and no checksum: decoders fill up what is missing and pass over
what is too much. What is behind a complete scan changes nothing, and its last bytes change
something. That tells both, for any process that there is a decoder for.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ml.errors import UnreadableImage

Decode = Callable[[bytes], npt.NDArray[np.generic]]

_END = b"\xff\xd9"
_NOISE = bytes(np.random.default_rng(8).integers(1, 255, 256, dtype=np.uint8))  # no 0xFF
_OTHER_NOISE = _NOISE[::-1]
_LAST = 3  # bytes; what is shorter is the padding of the last code


def ended_with_picture(frame: bytes, decode: Decode) -> bytes:
    """The frame, with its last scan cut to the bytes that its picture is made of.

    Args:
        frame: from SOI to EOI, with nothing between the last scan and EOI.
        decode: raises for what it cannot decode.

    Raises:
        UnreadableImage: ``truncated`` where the scan holds less than the picture, so that the rest
            of it is made up.
    """
    body, shown = frame[: -len(_END)], decode(frame)

    def is_same(stream: bytes) -> bool:
        try:
            return np.array_equal(decode(stream + _END), shown)
        except Exception:  # whatever a decoder raises at noise
            return False

    def is_enough(length: int) -> bool:
        kept = body[:length]
        kept = kept[:-1] if kept.endswith(b"\xff") else kept  # it has lost its second half
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
