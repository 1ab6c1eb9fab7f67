"""Small DICOM images of which a test changes single values, and how they are refused."""

import contextlib

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    EnhancedMRImageStorage,
)

from ml.errors import UnreadableImage
from ml.imaging import Limits, inspect, read_bytes
from tests.dicoms import as_bytes, mr_slice

LIMITS = Limits()


def ramp(side: int = 64, top: int = 4095) -> np.ndarray:
    return np.linspace(0, top, side * side).reshape(side, side).astype(np.uint16)


def an_image(pixels: np.ndarray | None = None, **values: object) -> FileDataset:
    dataset = mr_slice(ramp() if pixels is None else pixels)
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def enhanced(count: int) -> FileDataset:
    """An enhanced MR image whose frames differ in place, slope and window."""
    frames = [ramp() // 2 + number for number in range(count)]
    dataset = an_image(SOPClassUID=EnhancedMRImageStorage, NumberOfFrames=count)
    dataset.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    del dataset.ImagePositionPatient, dataset.ImageOrientationPatient, dataset.PixelSpacing
    del dataset.WindowCenter, dataset.WindowWidth
    dataset.PixelData = np.stack(frames).astype("<u2").tobytes()
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [0.5, 0.75]
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([orientation])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for number in range(count):
        group, place, values, window = Dataset(), Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [0, 0, number * 4]
        values.RescaleSlope, values.RescaleIntercept = str(number + 1), "0"
        window.WindowCenter, window.WindowWidth = str(100 + number), "50"
        group.PlanePositionSequence = Sequence([place])
        group.PixelValueTransformationSequence = Sequence([values])
        group.FrameVOILUTSequence = Sequence([window])
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(groups)
    return dataset


def code_of(content: bytes | Dataset, limits: Limits = LIMITS) -> str:
    """The refusal on which header and pixels agree, or that of the pixels alone."""
    content = content if isinstance(content, bytes) else as_bytes(content)
    with pytest.raises(UnreadableImage) as caught:
        read_bytes(content, limits)
    with contextlib.suppress(UnreadableImage):
        inspect(content, limits)
    return caught.value.code
