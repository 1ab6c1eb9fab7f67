"""The series of a study as shown on pages, and the predictions for their slices."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from flask_babel import LazyString
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from sqlalchemy import func, select

from webapp.database import db
from webapp.errors import NotFound
from webapp.inference.results import named_classes
from webapp.studies.models import Image, Prediction, Series, Status, Study
from webapp.wording import order_note, word

PLANES: Mapping[str, LazyString] = {
    "axial": _l("Axial"),
    "coronal": _l("Coronal"),
    "sagittal": _l("Sagittal"),
    "oblique": _l("Oblique"),
}


@dataclass(frozen=True)
class ShownSeries:
    """A series as shown on the page; consecutive single pictures are merged into one.

    Attributes:
        first: position of its first slice in the study.
        problems: number of slices that could not be decoded or classified.
    """

    id: uuid.UUID
    plane: str | None
    modality: str | None
    first: int
    count: int
    problems: int
    is_stack: bool
    is_volume: bool
    missing: int
    duplicates: int
    slice_order: str | None

    @property
    def order_note(self) -> str:
        """A note if the order of its slices is a guess; else empty."""
        return order_note(self.slice_order, self.count)

    @property
    def name(self) -> str:
        """Plane and modality, if known."""
        parts = [str(word(PLANES, self.plane)), self.modality or ""]
        return " ".join(part for part in parts if part) or _("Images")

    @property
    def is_uneven(self) -> bool:
        """Whether its slices are adjacent but unevenly spaced, so that it cannot be resliced."""
        return self.is_stack and not self.is_volume and not self.missing

    @property
    def middle(self) -> int:
        """Position of the middle slice, which shows most of the brain."""
        return self.first + (self.count - 1) // 2

    def holds(self, position: int) -> bool:
        """Whether the slice at ``position`` belongs to it."""
        return self.first <= position < self.first + self.count


@dataclass(frozen=True)
class ListedAnswer:
    """The prediction for an image, as far as lists need it.

    Attributes:
        named: the classes in its headline.
    """

    label: str
    named: tuple[str, ...]
    tumor: float
    in_distribution: bool
    heat: bool


def find_series(series_id: uuid.UUID) -> Series:
    """The series of the current organisation; raises :class:`NotFound`."""
    series = db.session.scalar(select(Series).where(Series.id == series_id))
    if series is None:
        raise NotFound(_("There is no such series."))
    return series


def series_rows(study: Study) -> Sequence[Series]:
    """The stored series in order."""
    found = select(Series).where(Series.study_id == study.id).order_by(Series.position)
    return db.session.scalars(found).all()


def shown_series(study: Study) -> list[ShownSeries]:
    """The series as shown on the page, in order."""
    found = db.session.execute(
        select(
            Series.id, Series.plane, Series.modality, Series.is_stack, Series.is_volume,
            Series.missing, Series.duplicates, Series.slice_order,
            func.min(Image.position).label("first"), func.count(Image.id).label("images"),
            func.count(Image.problem).label("problems"),
        )
        .join(Image, Image.series_id == Series.id)
        .where(Series.study_id == study.id)
        .group_by(Series.id)
        .order_by(func.min(Image.position))
    ).all()  # fmt: skip
    every = [
        ShownSeries(
            id=row.id,
            plane=row.plane,
            modality=row.modality,
            first=row.first,
            count=row.images,
            problems=row.problems,
            is_stack=row.is_stack,
            is_volume=row.is_volume,
            missing=row.missing,
            duplicates=row.duplicates,
            slice_order=row.slice_order,
        )
        for row in found
    ]
    return [_joined(list(run)) for _key, run in groupby(every, key=_run_key)]


def are_slices(series: Iterable[ShownSeries | Series]) -> bool:
    """Whether these are slices of a series, not single pictures."""
    return any(one.plane is not None or one.is_stack for one in series)


def current_answers(
    study: Study, only: Sequence[uuid.UUID] | None = None
) -> dict[uuid.UUID, ListedAnswer]:
    """The current analysis's prediction for each image; empty until it is done."""
    if study.status is not Status.DONE:
        return {}
    wanted = select(
        Prediction.image_id, Prediction.label, Prediction.probabilities, Prediction.prediction_set,
        Prediction.in_distribution, Prediction.heatmap_key,
    ).where(Prediction.analysis_id == study.current_analysis_id)  # fmt: skip
    if only is not None:
        wanted = wanted.where(Prediction.image_id.in_(only))
    return {
        row.image_id: ListedAnswer(
            label=row.label,
            named=named_classes(row.label, row.prediction_set),
            tumor=round(1.0 - row.probabilities["no_tumor"], 4),
            in_distribution=row.in_distribution,
            heat=row.heatmap_key is not None,
        )
        for row in db.session.execute(wanted)
    }


def _run_key(series: ShownSeries) -> object:
    """A group key: equal for single pictures, unique for every other series."""
    return "single" if series.count == 1 and series.plane is None else series.id


def _joined(run: list[ShownSeries]) -> ShownSeries:
    if len(run) == 1:
        return run[0]
    return ShownSeries(
        id=run[0].id,
        plane=None,
        modality=run[0].modality,
        first=run[0].first,
        count=sum(one.count for one in run),
        problems=sum(one.problems for one in run),
        is_stack=False,
        is_volume=False,
        missing=sum(one.missing for one in run),
        duplicates=sum(one.duplicates for one in run),
        slice_order=None,  # single pictures have no order
    )
