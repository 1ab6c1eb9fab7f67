"""Schemas of the API's requests, for validation and for the OpenAPI description."""

from typing import Any

import marshmallow as ma
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from marshmallow import fields, validate
from werkzeug.datastructures import FileStorage

from ml.labels import LABELS
from webapp.api.fields import Coordinate, Flag, ReceivedFile, WholeNumber
from webapp.corrections.operations import LONGEST_NOTE, DeletionReason
from webapp.intake.known import Known
from webapp.intake.letters import BurnedIn
from webapp.intake.patient_codes import LONGEST_CODE
from webapp.intake.submission import LONGEST_DESCRIPTION, MAX_FILES, PLANES
from webapp.reporting.operations import ReportFormat
from webapp.review.models import OTHER, Confidence, Verdict
from webapp.studies.models import Priority, Status
from webapp.studies.paging import CURSOR
from webapp.wording import FINDINGS

MOST_ROWS = 100
Json = dict[str, Any]
_LABEL = validate.OneOf([label.value for label in LABELS])
_NO_NUL = validate.ContainsNoneOf("\0")
_CURSOR = validate.Regexp(
    f"{CURSOR.pattern}|^$", error=_l("This cursor was not issued by the portal.")
)
_CODE = validate.Length(
    max=LONGEST_CODE,
    error=_l(
        "The patient code can have up to 64 letters, digits, spaces and the characters . : / + - _"
    ),
)
_DESCRIPTION = validate.Length(
    max=LONGEST_DESCRIPTION, error=_l("The description can have at most 200 characters.")
)
_WORDS = r"[^\s\u0000]"  # JSON Schema pattern: matches anywhere in the text


def _either(*alternatives: Json) -> Json:
    return {"anyOf": list(alternatives)}


def _where(**rules: Json) -> Json:
    """Each field follows its rule if present."""
    return {"properties": rules}


def _needs(**rules: Json) -> Json:
    """Each field is present and follows its rule."""
    return {"required": list(rules), "properties": rules}


def _left_out(*names: str) -> Json:
    return _where(**{name: {"type": "null"} for name in names})


_NO_DISAGREEMENT = _where(verdict={"enum": ["agree", "unsure"]})


class SubmissionSchema(ma.Schema):
    """A new study."""

    files: fields.List[FileStorage] = fields.List(
        ReceivedFile(),
        required=True,
        error_messages={"required": _l("Choose at least one image file.")},
        metadata={
            "minItems": 1,
            "description": (
                "DICOM files, volumes (NIfTI, MGH or MGZ, NRRD), pictures (PNG, JPEG, TIFF, WebP, "
                "HEIC), or archives of them (ZIP, or tar, plain or in gzip, bzip2 or xz); "
                f"at most {MAX_FILES}."
            ),
        },
    )
    patient_code = fields.String(
        load_default="",
        validate=_CODE,
        metadata={
            "description": "A pseudonym; generated if missing.",
            "pattern": r"^\s*(\w[\w\s.:/+-]*)?$",
        },
    )
    description = fields.String(
        load_default="", validate=_DESCRIPTION, metadata={"description": "No personal data."}
    )
    priority = fields.Enum(Priority, by_value=True, load_default=Priority.ROUTINE)
    plane = fields.String(
        load_default="auto",
        validate=validate.OneOf(PLANES),
        metadata={"description": "The plane in which volumes are sliced; by default as acquired."},
    )
    burned_in = fields.Enum(
        BurnedIn,
        by_value=True,
        load_default=BurnedIn.ASK,
        metadata={
            "description": (
                "What to do with text in the image, which may identify the patient: `ask` refuses "
                "with code `text-in-pixels` and the regions, `mask` blacks it out, `keep` says "
                "that a person has checked that it identifies nobody."
            )
        },
    )
    forgiving = fields.Boolean(
        load_default=False,
        metadata={"description": "Skip files that are not MR images instead of refusing."},
    )
    patient_code_confirmed = fields.Boolean(
        load_default=False,
        metadata={
            "description": (
                "A code that looks like a name or a date of birth is refused with code "
                "`patient-code-questioned` unless this says that it identifies nobody."
            )
        },
    )
    split = fields.Boolean(
        load_default=False,
        metadata={
            "description": (
                "Create a study for each patient and DICOM study in the upload. Without it, DICOM "
                "of several is refused with code `several-studies` and the `groups`; single images "
                "become one study, and `notes` says if their names suggest several patients. With "
                "a `patient_code`, the patients are numbered: CODE-1, CODE-2."
            )
        },
    )
    # There is no `ask` for a program: only a person can answer.
    known = fields.String(
        load_default=Known.NEW.value,
        validate=validate.OneOf([Known.NEW.value, Known.REUSE.value, Known.ADD.value]),
        metadata={
            "description": (
                "What to do with images that are already stored, found by their pixels: `new` "
                "analyses all of them as a new study, `reuse` returns the earlier study if it "
                "contains all of them, `add` adds those that are new to the earlier study. "
                "`already_known` names the earlier studies in any case. A DICOM study that is "
                "already stored stays one study."
            ),
        },
    )


class CorrectionSchema(ma.Schema):
    """Corrections; omitted fields keep their values."""

    patient_code = fields.String(
        validate=_CODE,
        metadata={"description": "A pseudonym.", "pattern": r"^\s*\w[\w\s.:/+-]*$"},
    )
    description = fields.String(
        validate=_DESCRIPTION, metadata={"description": "No personal data."}
    )
    priority = fields.Enum(Priority, by_value=True)
    patient_code_confirmed = Flag(
        metadata={
            "description": (
                "A code that looks like a name or a date of birth is refused with code "
                "`patient-code-questioned` unless this says that it names nobody."
            )
        },
    )
    version = fields.String(
        metadata={
            "description": (
                "`version` of the study that the values are for: refused with 409 where somebody "
                "else has corrected it since."
            )
        }
    )


class DeletionSchema(ma.Schema):
    """Why a study is to be deleted."""

    class Meta:
        """The reason `other` needs a note."""

        conditions = [
            _either(
                _where(
                    reason={
                        "enum": [
                            reason.value
                            for reason in DeletionReason
                            if reason is not DeletionReason.OTHER
                        ]
                    }
                ),
                _needs(
                    note={
                        "maxLength": LONGEST_NOTE,
                        "allOf": [{"pattern": _WORDS}, {"pattern": r"^\d{0,3}(\D\d{0,3})*$"}],
                    }
                ),
            )
        ]

    reason = fields.Enum(DeletionReason, by_value=True, required=True)
    note = fields.String(
        load_default="",
        metadata={
            "description": (
                f"For `other`: why, in at most {LONGEST_NOTE} characters that stay in the audit "
                "trail. Nothing about the patient: no code, no date, no long number."
            )
        },
    )


class IdempotencySchema(ma.Schema):
    """A key that makes it safe to repeat an upload."""

    key = fields.String(
        data_key="Idempotency-Key",
        load_default=None,
        validate=validate.Length(1, 200),
        metadata={"description": "The same key with the same upload returns the same study."},
    )


class PageQuerySchema(ma.Schema):
    """Selects a page of a list."""

    limit = WholeNumber(load_default=25, validate=validate.Range(1, MOST_ROWS))
    cursor = fields.String(
        load_default=None,
        validate=_CURSOR,
        metadata={"description": "`next_cursor` of the previous page."},
    )


class StudyQuerySchema(PageQuerySchema):
    """Filters of the study list."""

    status = fields.Enum(Status, by_value=True, load_default=None)
    label = fields.String(load_default=None, validate=_LABEL)
    patient_code = fields.String(
        load_default="",
        validate=_NO_NUL,
        metadata={"description": "The whole code.", "pattern": r"^[^\u0000]*$"},
    )


class ReportQuerySchema(ma.Schema):
    """The format of a report."""

    format = fields.Enum(
        ReportFormat,
        by_value=True,
        load_default=ReportFormat.PDF,
        metadata={"description": "`sr` is a DICOM structured report, `fhir` FHIR R4 as JSON."},
    )


class FeedbackQuerySchema(PageQuerySchema):
    """Page and format of the list of assessments."""

    format = fields.String(
        load_default="json",
        validate=validate.OneOf(["json", "zip"]),
        metadata={"description": "`zip` returns all assessments with their images, for training."},
    )


class AnswerSchema(ma.Schema):
    """A reader's assessment of one slice, of several, or of the study as a whole."""

    class Meta:
        """One subject; a label to disagree; a finding for `other`; a region only for one slice."""

        conditions = [
            _either(
                _left_out("image_ids", "scope"),
                _left_out("image_id", "scope"),
                _left_out("image_id", "image_ids"),
            ),
            _either(_left_out("region"), _where(scope={"type": "null"}, image_ids={"maxItems": 1})),
            _either(_NO_DISAGREEMENT, _needs(label={"type": "string"})),
            _either(
                _NO_DISAGREEMENT,
                _where(label={"enum": [*(label.value for label in LABELS)]}),
                _needs(finding={"pattern": _WORDS}),
            ),
        ]

    image_id = fields.UUID(
        load_default=None,
        metadata={
            "description": (
                "By default the study's key image, the first of `result.key_images`; for the "
                "study itself say so with `scope`."
            )
        },
    )
    image_ids = fields.List(
        fields.UUID(),
        load_default=None,
        allow_none=True,
        validate=validate.Length(1, 1000),
        metadata={"description": "Several slices: each becomes an assessment of its own."},
    )
    scope = fields.String(
        load_default=None,
        allow_none=True,
        validate=validate.OneOf(["study"]),
        metadata={"description": "`study` assesses the study as a whole."},
    )
    analysis_id = fields.UUID(
        load_default=None,
        allow_none=True,
        metadata={"description": "The analysis whose answer was seen; by default the current one."},
    )
    verdict = fields.Enum(Verdict, by_value=True, required=True)
    model_shown = Flag(
        load_default=None,
        allow_none=True,
        metadata={
            "description": (
                "false for a first opinion on slices of which the reader has not been shown the "
                "model's answer: send `disagree` with the diagnosis, which counts as agreement "
                "where the model says the same, or `unsure`. Refused where the portal has shown "
                "the answer to the reader. By default what the portal knows."
            )
        },
    )
    label = fields.String(
        load_default=None,
        allow_none=True,
        validate=validate.OneOf([*(label.value for label in LABELS), OTHER]),
        metadata={
            "description": (
                "The correct diagnosis; required to disagree, and then another than the result's. "
                "`other` is none of the classes and needs a `finding`. To agree, leave it out or "
                "repeat the result's."
            )
        },
    )
    finding = fields.String(
        load_default="",
        validate=validate.Length(max=64),
        metadata={
            "description": f"What it is, with `other`: one of {', '.join(FINDINGS)}, or free words."
        },
    )
    region = fields.List(
        fields.List(
            Coordinate(metadata={"minimum": 0, "maximum": 1}), validate=validate.Length(equal=2)
        ),
        load_default=None,
        allow_none=True,
        validate=validate.Length(3, 200),
        metadata={
            "description": "Corners as [x, y], fractions of width and height; of one slice alone."
        },
    )
    confidence = fields.Enum(Confidence, by_value=True, load_default=None, allow_none=True)
    comment = fields.String(load_default="", validate=validate.Length(max=2000))

    @ma.validates_schema
    def _one_subject(self, data: dict[str, Any], **_options: object) -> None:
        named = [name for name in ("scope", "image_ids", "image_id") if data.get(name)]
        if len(named) > 1:
            message = _("Name one slice, several, or the study as a whole.")
            raise ma.ValidationError(message, named[0])
