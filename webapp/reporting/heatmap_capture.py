"""Pictures for a PACS: DICOM secondary captures (PS3.3 A.8.1), uncompressed.

Each key slice gives a colour capture with the heatmap overlaid. If the slice did not come as
DICOM, a grey capture of the plain slice is sent too, so that the report has an image to refer to.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import SecondaryCaptureImageStorage

from webapp.reporting.content import ReportContent, ReportedSlice
from webapp.reporting.identity import ResultIdentity, new_object
from webapp.reporting.pictures import Grey, Rgb, grey_slice, render
from webapp.storage import BlobStore

_SLICES_NUMBER = 9001
_HEATMAPS_NUMBER = 9002
_LEGEND = ("Sulcus heatmap: places the model suspects", "Research only - not for diagnosis")


def plain_captures(
    content: ReportContent, identity: ResultIdentity, blobs: BlobStore
) -> list[Dataset]:
    """Captures of the key slices that have no DICOM instances.

    Raises:
        MissingBlob: a slice is gone.
    """
    return [
        _plain(key, identity, grey_slice(key, blobs))
        for key in content.key_slices
        if key.source is None
    ]


def heatmap_captures(
    content: ReportContent, identity: ResultIdentity, blobs: BlobStore, plain: Sequence[Dataset]
) -> list[Dataset]:
    """Captures of the key slices with their heatmaps.

    Args:
        plain: the captures from :func:`plain_captures`, referred to as sources.

    Raises:
        MissingBlob: a slice or a heatmap is gone.
    """
    made = {capture.SOPInstanceUID: capture for capture in plain}
    captures = []
    for key in content.key_slices:
        rendered = render(key, blobs)
        if rendered.heated is None:
            continue
        capture = _capture(
            identity, "heatmap", key, _with_legend(rendered.heated), rendered.spacing
        )
        capture.SeriesNumber = _HEATMAPS_NUMBER
        capture.SeriesDescription = "Sulcus heatmaps (research only)"
        capture.DerivationDescription = (
            f"Slice {key.number} with the class activation map of {identity.model} "
            f"{identity.model_version}"
        )
        capture.SourceImageSequence = [
            _source_item(key, made.get(identity.made_uid("slices", key.id)))
        ]
        captures.append(capture)
    return captures


def _plain(key: ReportedSlice, identity: ResultIdentity, grey: Grey) -> Dataset:
    spacing = None
    if key.row_spacing and key.column_spacing:
        spacing = (key.row_spacing, key.column_spacing)
    capture = _capture(identity, "slices", key, grey, None)
    capture.SeriesNumber = _SLICES_NUMBER
    capture.SeriesDescription = "Sulcus key slices"
    capture.DerivationDescription = f"Slice {key.number} of an upload, windowed to 8 bits"
    if spacing:
        capture.PixelSpacing = [f"{value:.6g}" for value in spacing]
    elif key.pixel_aspect:
        capture.PixelAspectRatio = [round(1000 * key.pixel_aspect), 1000]
    return capture


def _capture(
    identity: ResultIdentity,
    kind: str,
    key: ReportedSlice,
    pixels: Grey | Rgb,
    spacing: float | None,
) -> Dataset:
    """A secondary capture without series number and descriptions.

    Args:
        pixels: (height, width) or (height, width, 3), uint8.
        spacing: millimetres between pixels in both directions.
    """
    uid = identity.made_uid(kind, key.id)
    capture = new_object(identity, class_uid=SecondaryCaptureImageStorage, uid=uid)
    capture.Modality = "OT"
    capture.ConversionType = "WSD"
    capture.SeriesInstanceUID = identity.made_uid(f"{kind} series")
    capture.InstanceNumber = key.number
    capture.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    capture.PatientOrientation = list(key.orientation) if key.orientation else None
    capture.BodyPartExamined = "BRAIN"
    # The pixels identify no patient; the legend names only this software.
    capture.BurnedInAnnotation = "NO"
    capture.ImageComments = _LEGEND[1]
    capture.Rows, capture.Columns = pixels.shape[:2]
    capture.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    capture.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        capture.PlanarConfiguration = 0
    capture.BitsAllocated = capture.BitsStored = 8
    capture.HighBit = 7
    capture.PixelRepresentation = 0
    if spacing:
        capture.PixelSpacing = [f"{spacing:.6g}"] * 2
    content = np.ascontiguousarray(pixels).tobytes()
    capture.PixelData = content + b"\0" * (len(content) % 2)
    return capture


def _source_item(key: ReportedSlice, made: Dataset | None) -> Dataset:
    """The reference to the capture's source image (PS3.3 C.12.4.1)."""
    item = Dataset()
    if key.source is not None:
        item.ReferencedSOPClassUID = key.source.class_uid
        item.ReferencedSOPInstanceUID = key.source.uid
        if key.source.frame is not None:
            item.ReferencedFrameNumber = key.source.frame
    elif made is not None:
        item.ReferencedSOPClassUID = made.SOPClassUID
        item.ReferencedSOPInstanceUID = made.SOPInstanceUID
    purpose = Dataset()
    code = codes.DCM.SourceImageForImageProcessingOperation
    purpose.CodeValue = code.value
    purpose.CodingSchemeDesignator = code.scheme_designator
    purpose.CodeMeaning = code.meaning
    item.PurposeOfReferenceCodeSequence = [purpose]
    return item


def _with_legend(pixels: Rgb) -> Rgb:
    """Draw two small lines in the lower left corner, on a dark strip for contrast."""
    drawn = pixels.copy()
    height, width = drawn.shape[:2]
    scale = max(0.4, width / 1300)
    line = round(34 * scale) + 4
    top = max(0, height - line * len(_LEGEND) - line // 2)
    drawn[top:] = drawn[top:] // 3
    for number, text in enumerate(_LEGEND, start=1):
        place = (line // 2, min(height - 4, top + number * line))
        cv2.putText(
            drawn, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (235, 235, 235), 1, cv2.LINE_AA
        )
    return drawn
