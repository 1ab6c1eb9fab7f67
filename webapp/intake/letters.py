"""Find, question and black out letters in the pixels, for every way in which files arrive.

Pictures and derived DICOM images are searched by :mod:`ml.imaging.burned_in`. Original scanner
images and volumes have many slices, few of them with drawn text: :mod:`ml.imaging.drawn_text`
first selects those that may have some.
"""

import math
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.multival import MultiValue
from pydicom.uid import ExplicitVRLittleEndian

from ml.errors import UnreadableImage
from ml.imaging import FileFacts, Limits, footprint, inspect, open_bytes
from ml.imaging.burned_in import TextBox, find_text, mask_text
from ml.imaging.dicom import GREY, MR_CLASSES
from ml.imaging.dicom_pixels import open_frames
from ml.imaging.discretion import discreet
from ml.imaging.drawn_text import DrawnOn, drawn_in_stack, evenly, find_drawn_text, plateau
from ml.imaging.nifti import mask_nifti
from ml.imaging.pictures import Pixels
from webapp.deidentification import Deidentified, as_file
from webapp.extensions import current_room

Regions = tuple[tuple[float, float, float, float], ...]

_BITS_OF_A_SCREEN = 8
_FRAMES = 48  # of a long file that are searched, evenly spaced and including both ends
_LONGEST_SIDE_READ = 4096  # px
_VOXEL = 2  # bytes per decoded voxel
_MASKING = 4  # factor on the decoded size: the changed pixels, their copy and the new file


class BurnedIn(StrEnum):
    """What to do with letters in the pixels, which may name the patient."""

    ASK = "ask"  # refuse until a person has looked
    MASK = "mask"  # black them out
    KEEP = "keep"  # a person has looked and says that they identify nobody


class TextInPixels(UnreadableImage):
    """The pixels contain letters, and nobody has decided what to do with them.

    Attributes:
        regions: each as (left, top, right, bottom) in fractions of width and height.
    """

    def __init__(self, regions: Regions) -> None:
        super().__init__("burned_in", "There is text in the image that may name the patient.")
        self.regions = regions


def checked_picture(pixels: Pixels, burned_in: BurnedIn) -> Pixels:
    """The pixels that may be stored.

    Raises:
        TextInPixels: there are letters and ``burned_in`` is ``ASK``.
    """
    boxes = _text_in(pixels) if burned_in is not BurnedIn.KEEP else []
    height, width = pixels.shape[:2]
    if boxes and burned_in is BurnedIn.ASK:
        raise TextInPixels(_fractions(boxes, width, height))
    return mask_text(pixels, boxes) if boxes else pixels


def checked_dicom(done: Deidentified, facts: FileFacts, burned_in: BurnedIn) -> bytes:
    """The DICOM file that may be stored.

    Args:
        facts: from the file's header.

    Raises:
        TextInPixels: there are letters and ``burned_in`` is ``ASK``.
        UnreadableImage: the pixels are damaged, or letters cannot be blacked out.
    """
    if burned_in is BurnedIn.KEEP:
        return done.content
    dataset = done.dataset
    frames = open_frames(dataset, facts)
    # To black out letters, every frame is searched.
    at_most = None if burned_in is BurnedIn.MASK else _FRAMES
    boxes: list[TextBox] = []
    # Decode every frame, one at a time, so that a damaged one is noticed.
    if _is_measured(dataset, facts) and done.burned_in != "yes":
        marked = [at for at, one in enumerate(frames) if plateau(one.pixels) is not None]
        for at in evenly(marked, at_most):
            boxes += find_drawn_text(frames[at].pixels)
    else:
        looked_at = set(evenly(range(len(frames)), at_most))
        for at, one in enumerate(frames):
            boxes += find_text(one.pixels) if at in looked_at else []
    return _without_letters(done, boxes, facts, burned_in)


def checked_nifti(content: bytes, limits: Limits, burned_in: BurnedIn, plane: str) -> bytes:
    """The NIfTI file that may be stored.

    Args:
        plane: the slicing plane.

    Raises:
        TextInPixels: there are letters and ``burned_in`` is ``ASK``; the regions are only those
            in slices along the first axis with letters, in fractions of such a slice.
        UnreadableImage: the volume is not acceptable.
    """
    if burned_in is BurnedIn.KEEP:
        return content
    frames = inspect(content, limits, plane=plane).frames
    shape = (len(frames), frames[0].rows, frames[0].columns)
    with current_room().taken(footprint(content).reading + _VOXEL * math.prod(shape)):
        stack = np.empty(shape, np.uint16)
        for at, one in enumerate(open_bytes(content, limits, plane=plane)):
            stack[at] = one.pixels
        at_most = None if burned_in is BurnedIn.MASK else _FRAMES
        found = list(drawn_in_stack(stack, at_most))
        if not found:
            return content
        if burned_in is BurnedIn.ASK:
            across = found[0].axis
            height, width = np.delete(stack.shape, across)
            boxes = [box for one in found if one.axis == across for box in one.boxes]
            raise TextInPixels(_fractions(boxes, int(width), int(height)))
        with current_room().taken(_MASKING * footprint(content).reading):
            return mask_nifti(content, _hidden(shape, found), limits, plane)


def _hidden(shape: tuple[int, ...], found: Iterable[DrawnOn]) -> npt.NDArray[np.bool_]:
    hidden = np.zeros(shape, bool)
    for one in found:
        plane = np.moveaxis(hidden, one.axis, 0)[one.index]
        for box in one.boxes:
            plane[box.top : box.bottom, box.left : box.right] = True
    return hidden


def _text_in(pixels: Pixels) -> list[TextBox]:
    """Find letters in a picture; a large one is searched in a reduced copy."""
    height, width = pixels.shape[:2]
    factor = -(-max(height, width) // _LONGEST_SIDE_READ)
    if factor <= 1 or min(height, width) < factor:
        return find_text(pixels)
    size = (width // factor, height // factor)
    found = find_text(cast("Pixels", cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)))
    across, down = width / size[0], height / size[1]
    return [
        TextBox(
            left=int(box.left * across),
            top=int(box.top * down),
            right=min(width, math.ceil(box.right * across)),
            bottom=min(height, math.ceil(box.bottom * down)),
        )
        for box in found
    ]


def _is_measured(dataset: pydicom.Dataset, facts: FileFacts) -> bool:
    """Whether these are a scanner's values: original, grey and deeper than 8 bits.

    BurnedInAnnotation is trusted only if it says that there are letters.
    """
    kind = [str(word).strip().upper() for word in _words(dataset.get("ImageType"))]
    original = kind[:1] == ["ORIGINAL"] and kind[1:2] == ["PRIMARY"]
    grey = int(dataset.get("SamplesPerPixel") or 1) == 1
    grey = grey and str(dataset.get("PhotometricInterpretation")).startswith("MONOCHROME")
    deep = int(dataset.get("BitsStored") or 8) > _BITS_OF_A_SCREEN
    return facts.sop_class in MR_CLASSES and original and grey and deep


def _words(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, MultiValue)) else [value]


def _without_letters(
    done: Deidentified, boxes: Sequence[TextBox], facts: FileFacts, burned_in: BurnedIn
) -> bytes:
    """The file with letters blacked out; unchanged if none are found and none are declared."""
    if not boxes and done.burned_in != "yes":
        return done.content
    if burned_in is BurnedIn.ASK:
        raise TextInPixels(_fractions(boxes, facts.frames[0].columns, facts.frames[0].rows))
    if not boxes:
        raise UnreadableImage(
            "burned_in_unseen", "The file says that its pixels name the patient; none were found."
        )
    if str(done.dataset.PhotometricInterpretation) not in GREY:
        raise UnreadableImage("burned_in", "Letters are blacked out in grey images alone.")
    return _masked(done.dataset, boxes)


def _masked(dataset: pydicom.Dataset, boxes: Sequence[TextBox]) -> bytes:
    """Fill the boxes in all frames with the lowest stored value; returns an uncompressed file."""
    size = int(dataset.get("NumberOfFrames") or 1) * dataset.Rows * dataset.Columns
    size = size * dataset.BitsAllocated // 8
    with (
        current_room().taken(_MASKING * size),
        discreet("truncated", "The pixels are damaged."),
    ):
        pixels = dataset.pixel_array.copy()
        for box in boxes:
            # Rows and columns are the last two axes of a grey image; colour is refused before.
            pixels[..., box.top : box.bottom, box.left : box.right] = pixels.min()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.set_pixel_data(
            pixels,
            dataset.PhotometricInterpretation,
            dataset.BitsStored,
            generate_instance_uid=False,
        )
    dataset.BurnedInAnnotation = "NO"
    return as_file(dataset)


def _fractions(boxes: Sequence[TextBox], width: int, height: int) -> Regions:
    return tuple(
        (box.left / width, box.top / height, box.right / width, box.bottom / height)
        for box in boxes
    )
