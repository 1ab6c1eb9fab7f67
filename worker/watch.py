"""Compare the studies of each week with those of before, once a day."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from sqlalchemy import select

from ml.errors import InvalidModel
from ml.serving.observation import Family, Sample
from webapp.accounts.models import Organisation
from webapp.database import db, now
from webapp.inference.observations import purge_observations
from webapp.models_admin.serving import first_model_card
from webapp.queueing import WATCH
from webapp.tenancy import acting_for, unscoped
from webapp.watch import queries
from webapp.watch.models import EVERYTHING, Against, Baseline, RunVerdict
from webapp.watch.operations import WeekResult, keep_week
from webapp.watch.sampling import (
    WEEK,
    ReadStudy,
    WatchedStudy,
    baseline_sample,
    in_scope,
    overrides_of,
    read_studies,
    sample_of,
    scopes_of,
    start_of,
    watched_studies,
    week_of,
)
from worker.app import app

if TYPE_CHECKING:
    from ml.evaluation.drift import Level, Thresholds

MOST_WEEKS = 8
"""Weeks that are looked back at, after a pause of the worker."""
FEWEST_IN_BASELINE = 50
"""Studies of one origin in the baseline, below which that origin is not compared on its own."""

_log = logging.getLogger(__name__)


@app.task(name=WATCH)
def watch() -> None:
    """Compare every organisation's weeks, and forget old observations."""
    if count := purge_observations():
        _log.info("%d old observations were deleted", count)
    with unscoped():
        ids = list(db.session.scalars(select(Organisation.id)))
        db.session.rollback()
    for organisation_id in ids:
        try:
            with acting_for(organisation_id):
                watch_weeks(now())
        except Exception:
            # The others are compared all the same.
            db.session.rollback()
            _log.exception("the watch for organisation %s failed", organisation_id)


def watch_weeks(moment: datetime) -> None:
    """Compare the weeks of the organisation acted for that are not over and done with."""
    this_week = week_of(moment)
    done = queries.final_weeks(this_week - MOST_WEEKS * WEEK)
    for back in range(MOST_WEEKS, -1, -1):
        week = this_week - back * WEEK
        if week not in done:
            _watch_week(week, is_final=back > 0)


def _watch_week(week: date, *, is_final: bool) -> None:
    since = start_of(week)
    watched, read = watched_studies(since, since + WEEK), read_studies(since, since + WEEK)
    if not watched and not read:
        return
    references = _References.current()
    results = [
        _result(week, scope, is_final, in_scope(watched, scope), in_scope(read, scope), references)
        for scope in scopes_of([*watched, *read])
    ]
    keep_week(results, _raised(results))


@dataclass(frozen=True)
class _References:
    """What weeks may be compared with.

    Attributes:
        own: the newest baseline.
        published: of the installation's first model, with the hash of its weights.
    """

    own: Baseline | None
    published: Sample | None
    published_sha256: str

    @classmethod
    def current(cls) -> "_References":
        """Those of the organisation acted for."""
        from ml.evaluation.observing import observed_path, read_observed
        from ml.model_files import find_model_files

        card = first_model_card()
        sha256 = ""
        published = None
        try:
            sha256 = find_model_files(card).sha256
            published = read_observed(observed_path(card), sha256=sha256)
        except InvalidModel as fault:
            _log.error("the published reference cannot be used: %s", fault)
        return cls(queries.newest_baseline(), published, sha256)

    def of(
        self, scope: str, model_sha256: str | None
    ) -> tuple[Against, Sample | None, list[Family]]:
        """What a scope's week is compared with, and in which families."""
        if self.own is not None:
            sample = baseline_sample(self.own, scope)
            if scope != EVERYTHING and len(sample) < FEWEST_IN_BASELINE:
                return Against.NOTHING, None, []
            is_same = model_sha256 == self.own.model_sha256
            # Pictures and readers can be compared across models, answers and features cannot.
            return (
                Against.OWN,
                sample,
                list(Family)
                if is_same
                else [
                    Family.IMAGE,
                    Family.OVERRIDES,
                ],
            )
        if scope != EVERYTHING or self.published is None:
            return Against.NOTHING, None, []
        if model_sha256 != self.published_sha256:
            return Against.PUBLISHED, self.published, [Family.IMAGE]
        # Its shares of classes are those of a collection and not of a hospital.
        return Against.PUBLISHED, self.published, [Family.IMAGE, Family.FEATURES, Family.DOUBT]


def _result(
    week: date,
    scope: str,
    is_final: bool,
    watched: Sequence[WatchedStudy],
    read: Sequence[ReadStudy],
    references: _References,
) -> WeekResult:
    from ml.evaluation.drift import FEWEST_STUDIES, Level, compare

    model = watched[0].model_sha256 if watched else None
    # Features and answers of the model that answered last, pictures of all.
    is_one_model = len({one.model_sha256 for one in watched}) == 1
    against, baseline, families = references.of(scope, model if is_one_model else None)
    overridden, assessed = overrides_of(read)
    figures = []
    if len(watched) < FEWEST_STUDIES:
        verdict = RunVerdict.TOO_FEW
    elif baseline is None:
        verdict = RunVerdict.NO_BASELINE
    else:
        sample = sample_of(watched, (overridden, assessed))
        compared = compare(sample, baseline, _thresholds(against), families)
        figures = [one.plain() for one in compared]
        is_high = any(one.level >= Level.HIGH for one in compared)
        verdict = RunVerdict.CHANGED if is_high else RunVerdict.STEADY
    return WeekResult(
        week=week,
        scope=scope,
        is_final=is_final,
        studies=len(watched),
        against=against,
        baseline_id=references.own.id if against is Against.OWN and references.own else None,
        model_sha256=model,
        verdict=verdict,
        figures=figures,
        assessed=assessed,
        overridden=overridden,
    )


def _thresholds(against: Against) -> "Thresholds":
    from ml.evaluation.drift import OWN, PUBLISHED

    return OWN if against is Against.OWN else PUBLISHED


def _raised(results: Sequence[WeekResult]) -> dict[tuple[str, str], bool]:
    """Whether there is an alarm now: of each scope and family that could be compared."""
    from ml.evaluation.drift import is_raised, levels_of

    still = {(one.scope, one.family) for one in queries.open_alarms()}
    raised = {}
    for result in results:
        for family, level in levels_of(result.figures).items():
            before = _levels_before(result, family)
            raised[result.scope, family.value] = is_raised(
                (result.scope, family.value) in still, [*before, level], is_over=result.is_final
            )
    return raised


def _levels_before(result: WeekResult, family: Family) -> "list[Level]":
    """Of the two weeks before that were compared with the same, oldest first."""
    from ml.evaluation.drift import levels_of

    found: list[Mapping[Family, Level]] = [
        levels_of(run.figures)
        for run in queries.runs_before(result.week, result.scope, result.baseline_id, most=2)
    ]
    return [levels[family] for levels in found if family in levels]
