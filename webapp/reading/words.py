"""Words for reasons and outcomes of the reading room."""

from collections.abc import Mapping

from flask import Flask
from flask_babel import LazyString
from flask_babel import lazy_gettext as _l

from webapp.wording import word

# Why an assessment of a slice would teach something (webapp.inference.telling.Reason).
REASONS: Mapping[str, LazyString] = {
    "disputed": _l("Readers disagree"),
    "candidate": _l("A candidate model says something else than the one that serves"),
    "contradicting": _l("The slice suggests another tumour than its study"),
    "uncertain": _l("Several classes are not ruled out"),
    "unfamiliar": _l("Unlike the images the model was trained on"),
    "audit": _l("Chosen by chance, as a sample"),
}

# Whether an assessment counts for a label, or why not (webapp.reading.outcomes.Counting).
COUNTINGS: Mapping[str, LazyString] = {
    "counted": _l("Counts"),
    "superseded": _l("Replaced by a later one of yours"),
    "withdrawn": _l("Does not count: the patient has been withdrawn"),
    "study": _l("Of the study as a whole: labels are given to slices"),
    "unsure": _l("Names no diagnosis"),
    "other": _l("None of the model’s classes, so no model learns from it"),
    "flagged": _l("Not counted until a data steward has looked at your assessments"),
    "not_independent": _l("Not independent: another reader’s assessment could be seen"),
}

# How far readers have come with the slice (webapp.review.consensus.State).
STATES: Mapping[str, LazyString] = {
    "none": _l("Nobody has named a diagnosis yet"),
    "single": _l("Waiting for another independent reader"),
    "agreed": _l("Readers agree"),
    "disputed": _l("Readers disagree; a reviewer decides"),
    "adjudicated": _l("Decided by a reviewer"),
    "other": _l("None of the model’s classes"),
}


def init_app(app: Flask) -> None:
    """Offer the words to templates as filters."""
    tables = {
        "reading_reason_word": REASONS,
        "counting_word": COUNTINGS,
        "consensus_word": STATES,
    }
    for name, table in tables.items():
        app.add_template_filter(lambda value, table=table: word(table, value), name)
