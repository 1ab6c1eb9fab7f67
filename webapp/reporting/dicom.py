"""All DICOM objects of one result, as sent to an archive."""

from dataclasses import dataclass

from pydicom.dataset import Dataset

from ml.imaging.discretion import hushed
from webapp.reporting.content import ReportContent
from webapp.reporting.heatmap_capture import heatmap_captures, plain_captures
from webapp.reporting.identity import identity_of
from webapp.reporting.structured_report import structured_report
from webapp.storage import BlobStore


@dataclass(frozen=True)
class DicomResult:
    """The structured report and its pictures.

    Attributes:
        plain: key slices that did not come as DICOM; the report refers to them.
        heatmaps: key slices with their heatmaps.
    """

    report: Dataset
    plain: tuple[Dataset, ...]
    heatmaps: tuple[Dataset, ...]

    @property
    def objects(self) -> tuple[Dataset, ...]:
        """All objects, the report last, so that the objects it refers to arrive before it."""
        return (*self.plain, *self.heatmaps, self.report)


def dicom_result(content: ReportContent, blobs: BlobStore) -> DicomResult:
    """Build the objects; the same content gives the same bytes.

    Raises:
        MissingBlob: a file, slice or heatmap of the study is gone.
    """
    with hushed():  # highdicom warns about pseudonyms that do not look like names
        identity = identity_of(content, blobs)
        plain = plain_captures(content, identity, blobs)
        heatmaps = heatmap_captures(content, identity, blobs, plain)
        report = structured_report(content, identity, plain=plain, heatmaps=heatmaps)
    return DicomResult(report, tuple(plain), tuple(heatmaps))
