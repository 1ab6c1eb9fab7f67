"""A finished study's content with real pictures, as the database would give it."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.data import get_testdata_file

from ml.imaging import NO_LIMITS, read_bytes
from ml.imaging.pictures import encode_png
from ml.labels import LABELS
from webapp.inference.results import StudyResult, named_classes
from webapp.reporting.content import (
    ChartPoint,
    DicomSource,
    Reading,
    ReportContent,
    ReportedAnswer,
    ReportedSlice,
    SeriesFacts,
    uid_of,
)
from webapp.storage import BlobStore

SAMPLES = Path(__file__).parents[4] / "ml" / "samples"
FINISHED = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
STUDY_ID = uuid.UUID("11111111-2222-4333-8444-555555555555")


@dataclass(frozen=True)
class Results:
    """Contents over one store of pictures."""

    blobs: BlobStore

    def answer(self, label: str = "glioma", probability: float = 0.62) -> ReportedAnswer:
        rest = (1 - probability) / (len(LABELS) - 1)
        probabilities = {each.value: probability if each == label else rest for each in LABELS}
        return ReportedAnswer(label, probabilities, (label, "no_tumor"), in_distribution=True)

    def picture_slice(self, number: int = 1, name: str = "glioma-1.jpg") -> ReportedSlice:
        """A slice that was uploaded as a picture."""
        pixels = read_bytes((SAMPLES / name).read_bytes(), NO_LIMITS)[0].pixels
        return self._slice(number, pixels if pixels.ndim == 2 else pixels[..., 0])

    def dicom_slice(self, number: int = 1, *, frame: int | None = None) -> ReportedSlice:
        """A slice of pydicom's MR test file, twice as high as wide in the patient."""
        path = get_testdata_file("MR_small.dcm", read=False)
        content = Path(str(path)).read_bytes()
        dataset = pydicom.dcmread(str(path))
        source = DicomSource(
            uid=dataset.SOPInstanceUID,
            class_uid=dataset.SOPClassUID,
            series_uid=dataset.SeriesInstanceUID,
            blob_key=self.blobs.put(content),
            frame=frame,
        )
        pixels = np.asarray(dataset.pixel_array.clip(0), dtype=np.uint16)
        made = self._slice(number, pixels)
        return replace(
            made, source=source, row_spacing=2.0, column_spacing=1.0, orientation=("L", "P")
        )

    def _slice(self, number: int, pixels: "np.typing.NDArray[Any]") -> ReportedSlice:
        height, width = pixels.shape
        heat = np.zeros((height, width, 4), np.uint8)
        heat[height // 4 : height // 2, width // 4 : width // 2] = (255, 40, 0, 200)
        return ReportedSlice(
            id=uuid.uuid5(STUDY_ID, str(number)),
            number=number,
            answer=self.answer(),
            blob_key=self.blobs.put(encode_png(pixels)),
            heatmap_key=self.blobs.put(encode_png(heat)),
            width=width,
            height=height,
            row_spacing=None,
            column_spacing=None,
            orientation=None,
            source=None,
        )

    def content(self, *keys: ReportedSlice, **values: Any) -> ReportContent:
        """A study whose key slices are ``keys``; by default one uploaded picture."""
        slices = keys or (self.picture_slice(),)
        dicom = slices[0].source
        content = ReportContent(
            study_id=STUDY_ID,
            uid=_study_uid() if dicom else uid_of(STUDY_ID),
            is_dicom=dicom is not None,
            patient_code="P-ABC123",
            dicom_patient_id="P-ABC123",
            description="",
            acquired_on=date(2024, 2, 3),
            created_at=FINISHED,
            finished_at=FINISHED,
            uploaded_by="Dr Ada Byron",
            organisation="Hospital A",
            model_name="vgg16-gap",
            model_sha256="ab12" * 16,
            result=study_result(slices[0].answer),
            key_slices=slices,
            contradicting=(),
            slices=_curve(max(20, *(key.number for key in slices))),
            series=(SeriesFacts(dicom.series_uid if dicom else uid_of(STUDY_ID), "MR", 20),),
            readings=(),
            is_of_slices=dicom is not None,
        )
        return replace(content, **values)


def study_result(
    answer: ReportedAnswer, contradicting: Mapping[uuid.UUID, str] | None = None
) -> StudyResult:
    """What an analysis says about a study whose first key slice has ``answer``."""
    against = dict(contradicting or {})
    named = named_classes(answer.label, (*answer.prediction_set, *against.values()))
    return StudyResult(
        analysis_id=uuid.UUID(int=7),
        number=1,
        images=20,
        finished_at=FINISHED,
        label=answer.label,
        named=named,
        probability=answer.probabilities[answer.label] if len(named) == 1 else None,
        probabilities=answer.probabilities,
        prediction_set=answer.prediction_set,
        in_distribution=answer.in_distribution,
        in_distribution_share=0.975,
        key_images=(),
        contradicting=against,
        mode=None,
    )


def reading(comment: str, **values: Any) -> Reading:
    """A reader who does not agree."""
    given = Reading(1, "Dr Ada Byron", "disagree", "meningioma", "high", comment, FINISHED)
    return replace(given, **values)


def _curve(count: int) -> Sequence[ChartPoint]:
    hill = np.exp(-(((np.arange(count) - count / 2) / 3) ** 2))
    return tuple(ChartPoint(number, float(value)) for number, value in enumerate(hill, start=1))


def _study_uid() -> str:
    return str(pydicom.dcmread(str(get_testdata_file("MR_small.dcm", read=False))).StudyInstanceUID)
