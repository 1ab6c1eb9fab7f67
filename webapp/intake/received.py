"""The response to an upload."""

import uuid
from typing import Any

from flask import url_for
from flask_babel import ngettext

from webapp.intake.submission import Submission
from webapp.wording import FILE_PROBLEMS, word


def page_of(study_id: uuid.UUID) -> str:
    """The URL of a study's page."""
    return url_for("worklist.show", study_id=study_id)


def answered(submission: Submission) -> dict[str, Any]:
    """The JSON for the page's script: where to go, and what was not done as requested."""
    return {
        "location": page_of(submission.study.id),
        "studies": [
            {
                "location": page_of(study.id),
                "label": label,
                "patient_code": study.patient.code,
                "images": len(study.images),
            }
            for study, label in zip(submission.studies, submission.labels, strict=True)
        ],
        "received": len(submission.files),
        "stored": submission.stored,
        "left_out": omissions(submission),
        "notes": submission.notes,
    }


def omissions(submission: Submission) -> list[dict[str, str]]:
    """The files that were not stored, each with a reason."""
    return [
        {"name": name, "reason": str(word(FILE_PROBLEMS, code))}
        for name, code in submission.left_out
    ]


def omission_count(submission: Submission) -> str:
    """How many files were not stored, without names: these may identify a patient in a cookie."""
    return str(
        ngettext(
            "%(num)d file was left out; the study says why.",
            "%(num)d files were left out; the study says why.",
            len(submission.left_out),
        )
    )
