"""DICOM files made for tests and benchmarks: real pixels, invented patients."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

SAMPLES = Path(__file__).parents[1] / "ml" / "samples"
IDENTIFIERS = ("Roentgen", "Wilhelmina", "HOSP-4711-X", "19470611", "Dr. Curie", "Sanatorium Nord")


@dataclass(frozen=True)
class Patient:
    """An invented patient. All its texts are in ``IDENTIFIERS``."""

    name: str = "Roentgen^Wilhelmina"
    identifier: str = "HOSP-4711-X"
    birth_date: str = "19470611"


def head(number: int, count: int, size: int) -> npt.NDArray[np.uint16]:
    """A slice of a made-up head: a bundled sample that grows and shrinks towards the ends."""
    sample = cv2.imread(str(SAMPLES / "no_tumor-1.jpg"), cv2.IMREAD_GRAYSCALE)
    assert sample is not None
    scale = 0.55 + 0.45 * float(np.sin(np.pi * (number + 0.5) / count))
    inner = max(32, round(size * scale))
    canvas = np.zeros((size, size), np.uint16)
    start = (size - inner) // 2
    shrunk = cv2.resize(sample, (inner, inner), interpolation=cv2.INTER_AREA)
    canvas[start : start + inner, start : start + inner] = shrunk.astype(np.uint16) * 8
    return canvas


def axial_series(
    count: int,
    *,
    size: int = 128,
    spacing: float = 3.0,
    pixel_spacing: tuple[float, float] = (1.0, 1.0),
    patient: Patient | None = None,
    study_uid: str | None = None,
    series_uid: str | None = None,
    study_date: str = "20240229",
) -> list[bytes]:
    """Files of one axial MR series, from inferior to superior."""
    study_uid, series_uid = study_uid or generate_uid(), series_uid or generate_uid()
    return [
        as_bytes(
            mr_slice(
                head(number, count, size),
                position=(-size / 2, -size / 2, number * spacing),
                number=number + 1,
                pixel_spacing=pixel_spacing,
                patient=patient or Patient(),
                study_uid=study_uid,
                series_uid=series_uid,
                study_date=study_date,
            )
        )
        for number in range(count)
    ]


def mr_slice(
    pixels: npt.NDArray[np.uint16],
    *,
    position: tuple[float, float, float] = (0.0, 0.0, 0.0),
    number: int = 1,
    pixel_spacing: tuple[float, float] = (1.0, 1.0),
    patient: Patient | None = None,
    study_uid: str | None = None,
    series_uid: str | None = None,
    study_date: str = "20240229",
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
) -> FileDataset:
    """One MR image with everything in its header that a hospital would put there."""
    patient = patient or Patient()
    uid = generate_uid()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.SourceApplicationEntityTitle = "SANATORIUM"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, uid
    dataset.StudyInstanceUID = study_uid or generate_uid()
    dataset.SeriesInstanceUID = series_uid or generate_uid()
    dataset.FrameOfReferenceUID = generate_uid()
    dataset.PatientName, dataset.PatientID = patient.name, patient.identifier
    dataset.PatientBirthDate, dataset.PatientSex = patient.birth_date, "F"
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = study_date
    dataset.StudyTime, dataset.StudyID = "101112", "4711"
    dataset.AccessionNumber = "HOSP-4711-X"
    dataset.ReferringPhysicianName = "Dr. Curie"
    dataset.InstitutionName = "Sanatorium Nord"
    dataset.StudyDescription = "Brain of Roentgen, Wilhelmina"
    dataset.Modality, dataset.Manufacturer = "MR", "Maker"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    dataset.SeriesNumber, dataset.InstanceNumber = 1, number
    dataset.ImagePositionPatient = [float(value) for value in position]
    dataset.ImageOrientationPatient = list(orientation)
    dataset.PixelSpacing = list(pixel_spacing)
    dataset.SliceThickness = 3
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.WindowCenter, dataset.WindowWidth = 1000, 2000
    dataset.PixelData = np.minimum(pixels, 4095).astype("<u2").tobytes()
    block = dataset.private_block(0x0029, "SANATORIUM NORD", create=True)
    block.add_new(0x10, "LO", "Wilhelmina")
    return dataset


def as_bytes(dataset: pydicom.Dataset) -> bytes:
    """The dataset as a DICOM file."""
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
