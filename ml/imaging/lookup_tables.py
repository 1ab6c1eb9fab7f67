"""Trim lookup tables of DICOM images to the size in their descriptors (PS3.3 C.11.1, C.7.6.3)."""

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataelem import DataElement

from ml.errors import UnreadableImage

_COLOURS = ("Red", "Green", "Blue")
_MOST_ENTRIES = 2**16


def trim_table(item: pydicom.Dataset, *, little: bool) -> None:
    """Trim the LUT Data of ``item`` to its entries and clear their unused bits.

    Args:
        item: of a Modality LUT Sequence or VOI LUT Sequence; changed in place.
        little: whether words in the file are little-endian.

    Raises:
        UnreadableImage: ``header_lies`` if there are fewer entries than announced.
    """
    entries, bits = _descriptor(item, "LUTDescriptor")
    element = item["LUTData"]
    order = "little" if little else "big"
    if isinstance(element.value, bytes):
        words = _words(element.value, little=little)
        if len(words) < entries and bits <= 8 and len(element.value) >= entries:
            # 8-bit entries, two per word.
            raw = element.value[:entries]
            item["LUTData"] = DataElement(element.tag, "OW", raw + bytes(len(raw) % 2))
            return
        values = words.tolist()
    else:
        values = [element.value] if isinstance(element.value, int) else list(element.value)
    if len(values) < entries:
        raise _too_short()
    kept = [int(value) & (2**bits - 1) for value in values[:entries]]
    if element.VR in {"US", "SS"}:
        item["LUTData"] = DataElement(element.tag, "US", kept)
        return
    raw = b"".join(value.to_bytes(2, order) for value in kept)
    item["LUTData"] = DataElement(element.tag, "OW", raw)


def trim_palette(dataset: pydicom.Dataset, *, little: bool) -> None:
    """Trim the three colour tables to their entries; segmented tables become plain ones.

    Raises:
        UnreadableImage: ``header_lies`` if there are fewer entries than announced.
    """
    for colour in _COLOURS:
        _trim_colour(dataset, colour, little=little)


def _trim_colour(dataset: pydicom.Dataset, colour: str, *, little: bool) -> None:
    name = f"{colour}PaletteColorLookupTable"
    plain, segmented = f"{name}Data", f"Segmented{name}Data"
    if f"{name}Descriptor" not in dataset:
        for keyword in (plain, segmented):
            if keyword in dataset:
                del dataset[keyword]
        return
    entries, bits = _descriptor(dataset, f"{name}Descriptor")
    if plain not in dataset and segmented not in dataset:
        return
    if plain in dataset:
        raw = dataset[plain].value or b""
        size = entries * (2 if bits > 8 or _lies_in_words(raw[: 2 * entries], entries) else 1)
        kept = raw[:size]
    else:
        kept = _expanded(dataset[segmented].value or b"", bits, entries, little=little)
        size = entries * (2 if bits > 8 else 1)
    if len(kept) < size:
        raise _too_short()
    if 8 < bits < 16:
        kept = _as_bytes(_words(kept, little=little) & np.uint16(2**bits - 1), little=little)
    for keyword in (plain, segmented):
        if keyword in dataset:
            del dataset[keyword]
    setattr(dataset, plain, kept + bytes(len(kept) % 2))


def _lies_in_words(raw: bytes, entries: int) -> bool:
    """Whether 8-bit entries are stored in 16-bit words: one byte is zero or repeats the other."""
    if len(raw) < 2 * entries:
        return False
    first, second = raw[::2], raw[1::2]
    return first == second or not any(first) or not any(second)


def _expanded(raw: bytes, bits: int, entries: int, *, little: bool) -> bytes:
    """A segmented table expanded (PS3.3 C.7.9.2) to at most ``entries`` entries."""
    size = 1 if bits <= 8 else 2
    data = list(raw) if size == 1 else _words(raw, little=little).tolist()
    order = (0, 1) if size == 2 else (0, 1, 2, 3) if little else (1, 0, 3, 2)
    made: list[int] = []
    at, end = 0, len(data)
    left, back = 0, 0  # remaining segments of an indirect copy, and the offset to return to
    while len(made) < entries and at + 2 < end:
        kind, length = data[at], data[at + 1]
        at += 2
        if kind == 0:
            made += data[at : at + length]
            at += length
        elif kind == 1 and made:
            steps = np.linspace(made[-1], data[at], length + 1)[1:]
            made += np.around(steps).astype(int).tolist()
            at += 1
        elif kind == 2 and not left:
            parts = data[at : at + len(order)]
            if len(parts) < len(order):
                raise _too_short()
            place = sum(parts[where] << (8 * size * power) for power, where in enumerate(order))
            left, back, at = length + 1, at + len(order), place // size
        else:
            raise _too_short()
        if left:
            left -= 1
            at = back if left == 0 else at
    kept = made[:entries]
    return bytes(kept) if size == 1 else _as_bytes(np.asarray(kept, np.uint16), little=little)


def _descriptor(dataset: pydicom.Dataset, keyword: str) -> tuple[int, int]:
    """Number of entries and bits of each."""
    descriptor = dataset.get(keyword)
    try:
        entries, _first, bits = (int(number) for number in descriptor)
    except (TypeError, ValueError):
        raise _too_short() from None
    entries = entries % _MOST_ENTRIES or _MOST_ENTRIES
    if not 1 <= bits <= 16:
        raise _too_short()
    return entries, bits


def _words(raw: bytes, *, little: bool) -> npt.NDArray[np.uint16]:
    whole = raw[: len(raw) // 2 * 2]
    return np.frombuffer(whole, "<u2" if little else ">u2").astype(np.uint16)


def _as_bytes(words: npt.NDArray[np.uint16], *, little: bool) -> bytes:
    return words.astype("<u2" if little else ">u2").tobytes()


def _too_short() -> UnreadableImage:
    return UnreadableImage("header_lies", "The header promises other tables than the file holds.")
