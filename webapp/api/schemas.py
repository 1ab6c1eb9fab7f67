"""What the API takes and gives, for checking, for writing and for the description."""

import re
from typing import Any

import marshmallow as ma
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_smorest.fields import Upload
from marshmallow import fields, validate
from werkzeug.datastructures import FileStorage

from ml.labels import LABELS
from webapp.corrections.operations import LONGEST_NOTE, DeletionReason
from webapp.intake.known import Known
from webapp.intake.letters import BurnedIn
from webapp.intake.patient_codes import LONGEST_CODE
from webapp.intake.submission import LONGEST_DESCRIPTION, MAX_FILES, PLANES
from webapp.reporting.operations import ReportFormat
from webapp.review.models import OTHER, Confidence, Verdict
from webapp.studies.models import Mode, Priority, Status
from webapp.studies.paging import CURSOR
from webapp.wording import FINDINGS, QUALITY

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
_WORDS = r"[^\s\u0000]"  # somewhere in the text


def _either(*alternatives: Json) -> Json:
    return {"anyOf": list(alternatives)}


def _where(**rules: Json) -> Json:
    """Each field follows its rule, where it is there."""
    return {"properties": rules}


def _needs(**rules: Json) -> Json:
    """Each field is there and follows its rule."""
    return {"required": list(rules), "properties": rules}


def _left_out(*names: str) -> Json:
    return _where(**{name: {"type": "null"} for name in names})


_NO_DISAGREEMENT = _where(verdict={"enum": ["agree", "unsure"]})


class ReceivedFile(Upload):
    """An uploaded file, and not a text field of the same name."""

    def _deserialize(
        self, value: object, _attr: str | None, _data: object, **_options: object
    ) -> FileStorage:
        if not isinstance(value, FileStorage):
            raise ma.ValidationError(_("This must be a file."))
        return value


class Flag(fields.Boolean):
    """Yes or no in JSON, and none of the words that forms use for it."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:  # noqa: ARG002
        if not isinstance(value, bool):
            raise self.make_error("invalid")
        return value


class Coordinate(fields.Float):
    """A number in JSON, and no text that could be read as one."""

    def _validated(self, value: object) -> float:
        if not isinstance(value, int | float):
            raise self.make_error("invalid")
        return super()._validated(value)


class WholeNumber(fields.Integer):
    """A number in an address: digits alone."""

    def _validated(self, value: object) -> int:
        if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,9}", value):
            raise self.make_error("invalid")
        return super()._validated(value)


class Written(fields.List[Any]):
    """A list that is described like others and written as it is.

    A series has hundreds of images, whose fields are what the schema says already.
    """

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        return value


class GroupSchema(ma.Schema):
    """Files that belong to one patient and study."""

    label = fields.String()
    files = fields.Integer()
    examples = fields.List(fields.String(), metadata={"description": "Names of some files."})


class ProblemSchema(ma.Schema):
    """A problem document, RFC 9457."""

    type = fields.String(metadata={"example": "about:blank"})
    title = fields.String()
    status = fields.Integer()
    detail = fields.String(metadata={"description": "One sentence for a person."})
    code = fields.String(metadata={"description": "A stable word for a program."})
    errors = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        metadata={"description": "What is wrong, by the name of the field or file."},
    )
    regions = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.List(fields.Float())),
        metadata={
            "description": (
                "With code `text-in-pixels`: where, by file, each as left, top, right, bottom in "
                "fractions of width and height."
            )
        },
    )
    groups = fields.List(
        fields.Nested(GroupSchema),
        metadata={
            "description": "With code `several-studies`: each of which would become a study."
        },
    )
    earlier_code = fields.String(
        metadata={"description": "With code `patient-code-conflict`: the code of the stored study."}
    )
    given_code = fields.String(
        metadata={"description": "With code `patient-code-conflict`: the code that was sent."}
    )
    study_id = fields.UUID(
        metadata={"description": "With code `patient-code-conflict`: the stored study."}
    )


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
    # A program is not asked: that is for people who can answer.
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
    """What is to be corrected; what is left out stays as it is."""

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
        """`other` needs a note."""

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
    """A key that makes it safe to send the same upload again."""

    key = fields.String(
        data_key="Idempotency-Key",
        load_default=None,
        validate=validate.Length(1, 200),
        metadata={"description": "The same key with the same upload returns the same study."},
    )


class PageQuerySchema(ma.Schema):
    """Which page of a list."""

    limit = WholeNumber(load_default=25, validate=validate.Range(1, MOST_ROWS))
    cursor = fields.String(
        load_default=None,
        validate=_CURSOR,
        metadata={"description": "`next_cursor` of the previous page."},
    )


class StudyQuerySchema(PageQuerySchema):
    """Which studies."""

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
    """Which assessments, and in which format."""

    format = fields.String(
        load_default="json",
        validate=validate.OneOf(["json", "zip"]),
        metadata={"description": "`zip` returns all assessments with their images, for training."},
    )


class AnswerSchema(ma.Schema):
    """A reader's assessment of one slice, of several, or of the study as a whole."""

    class Meta:
        """One subject; a diagnosis to disagree, words for `other`, a region in one slice."""

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


class LinksSchema(ma.Schema):
    """Where to go from here; paths on this server."""

    self = fields.String()
    page = fields.String(metadata={"description": "For people, with a browser."})


class ListLinksSchema(ma.Schema):
    """Where a list goes on."""

    self = fields.String()
    next = fields.String(allow_none=True)


class ImageLinksSchema(ma.Schema):
    """The pictures themselves."""

    pixels = fields.String(metadata={"description": "The image at full bit depth, PNG."})
    heatmap = fields.String(allow_none=True, metadata={"description": "An overlay, PNG."})


class ModelSchema(ma.Schema):
    """The model that gave a result."""

    name = fields.String()
    sha256 = fields.String()


class FindingSchema(ma.Schema):
    """A class with its probabilities and its uncertainty."""

    label = fields.String(
        validate=_LABEL,
        metadata={
            "description": "No tumour only if that is likely enough, otherwise the likeliest "
            "tumour; so not always the likeliest class, but always in prediction_set."
        },
    )
    probabilities = fields.Dict(
        keys=fields.String(),
        values=fields.Float(),
        metadata={
            "description": "They sum to 1. In a volume, adjacent slices are taken into account."
        },
    )
    prediction_set = fields.List(
        fields.String(), metadata={"description": "Classes that are not ruled out."}
    )
    in_distribution = fields.Boolean(
        metadata={"description": "False if the image is unlike what the model was trained on."}
    )


class PredictionSchema(FindingSchema):
    """What the model says about one image."""

    ood_score = fields.Float()
    quality = fields.List(
        fields.String(validate=validate.OneOf(list(QUALITY))),
        metadata={"description": "Faults of image quality; empty if there are none."},
    )
    model = fields.Nested(ModelSchema)


class StudyFindingSchema(FindingSchema):
    """What one analysis says about the whole study."""

    analysis_id = fields.UUID()
    named = fields.List(
        fields.String(),
        metadata={"description": "Every class that the headline names, the label first."},
    )
    headline = fields.String(metadata={"description": "The same in words, translated."})


class ResultSchema(StudyFindingSchema):
    """What the model says about the whole study."""

    mode = fields.String(
        allow_none=True,
        validate=validate.OneOf([mode.value for mode in Mode]),
        metadata={
            "description": "Whether adjacent slices were taken into account (volume), each "
            "slice was analysed separately (slices), or some each way (mixed)."
        },
    )
    key_images = fields.List(
        fields.UUID(),
        metadata={"description": "The study's key images, the most significant first."},
    )
    contradicting_images = fields.List(
        fields.UUID(),
        metadata={"description": "Images that suggest a different tumour from the study's label."},
    )
    in_distribution_share = fields.Float(
        allow_none=True,
        metadata={
            "description": "Share of images that resemble the brain MRI the model was trained on."
        },
    )


class SeriesSchema(ma.Schema):
    """Images that belong together."""

    id = fields.UUID()
    position = fields.Integer()
    modality = fields.String(allow_none=True)
    plane = fields.String(allow_none=True)
    is_stack = fields.Boolean(
        metadata={
            "description": "Parallel and in order, so that adjacent slices are taken into account."
        }
    )
    is_volume = fields.Boolean(
        metadata={"description": "A stack that is evenly spaced and complete."}
    )
    slice_spacing = fields.Float(allow_none=True, metadata={"description": "Millimetres."})
    missing = fields.Integer(metadata={"description": "Slices missing according to the spacing."})
    duplicates = fields.Integer(metadata={"description": "Files that repeat a slice."})
    slice_order = fields.String(
        allow_none=True,
        metadata={
            "description": "What the slices are in order by: `place` in the head, `location` on a "
            "line, image `number`, or as `given`; null if unknown."
        },
    )
    order_note = fields.String(
        allow_none=True,
        metadata={"description": "Set if the order is a guess: says so, and what it goes by."},
    )


class ImageSchema(ma.Schema):
    """One slice."""

    id = fields.UUID()
    series_id = fields.UUID()
    position = fields.Integer()
    width = fields.Integer()
    height = fields.Integer()
    problem = fields.String(
        allow_none=True, metadata={"description": "Why it could not be analysed."}
    )
    prediction = fields.Nested(PredictionSchema, allow_none=True)
    links = fields.Nested(ImageLinksSchema)


class ProgressSchema(ma.Schema):
    """How many images have been analysed."""

    done = fields.Integer()
    total = fields.Integer()


class AcceptedSchema(ma.Schema):
    """A study that was accepted."""

    id = fields.UUID()
    status = fields.Enum(Status, by_value=True)
    links = fields.Nested(LinksSchema)


class MadeStudySchema(AcceptedSchema):
    """One of the studies created from an upload."""

    patient_code = fields.String()
    label = fields.String(
        metadata={"description": "What its file names have in common; usually empty."}
    )


class KnownStudySchema(ma.Schema):
    """An earlier study that contains some of the images."""

    study_id = fields.UUID()
    matching = fields.Integer(metadata={"description": "How many of the files it contains."})
    links = fields.Nested(LinksSchema)


class OmissionSchema(ma.Schema):
    """A file that was not kept."""

    name = fields.String()
    code = fields.String(metadata={"description": "A stable word for a program."})
    reason = fields.String(metadata={"description": "One sentence for a person."})


class SubmittedSchema(AcceptedSchema):
    """The outcome of an upload; `id`, `status` and `links` are those of the first study."""

    studies = fields.List(fields.Nested(MadeStudySchema))
    already_known = fields.List(fields.Nested(KnownStudySchema))
    left_out = fields.List(fields.Nested(OmissionSchema))
    notes = fields.List(
        fields.String(),
        metadata={
            "description": (
                "Sentences about what was not done as requested, for example when a study that is "
                "already stored keeps its description."
            )
        },
    )


class StudySummarySchema(AcceptedSchema):
    """A study in a list."""

    reason = fields.String(
        allow_none=True, metadata={"description": "Why it failed or was rejected."}
    )
    created_at = fields.AwareDateTime()
    finished_at = fields.AwareDateTime(allow_none=True)
    patient_code = fields.String()
    description = fields.String()
    priority = fields.Enum(Priority, by_value=True)
    version = fields.String(
        metadata={"description": "Changes whenever code, description or priority is corrected."}
    )
    left_out = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        metadata={"description": "Files that were skipped, counted by reason."},
    )
    progress = fields.Nested(ProgressSchema)
    result = fields.Nested(StudyFindingSchema, allow_none=True)


class AnalysisSchema(ma.Schema):
    """One model version's pass over the images of a study."""

    id = fields.UUID()
    number = fields.Integer(
        metadata={"description": "Counted from 1; the highest is the current one."}
    )
    status = fields.Enum(Status, by_value=True)
    images = fields.Integer(metadata={"description": "Number of images analysed."})
    created_at = fields.AwareDateTime()
    finished_at = fields.AwareDateTime(allow_none=True)
    model = fields.Nested(ModelSchema, allow_none=True)


class EarlierAnalysisSchema(AnalysisSchema):
    """The result before the study was analysed again."""

    result = fields.Nested(StudyFindingSchema, allow_none=True)


class StudySchema(StudySummarySchema):
    """A study with its images and results."""

    series = fields.List(fields.Nested(SeriesSchema))
    images = Written(fields.Nested(ImageSchema))
    result = fields.Nested(ResultSchema, allow_none=True)
    analysis = fields.Nested(AnalysisSchema, allow_none=True)
    earlier_analyses = fields.List(fields.Nested(EarlierAnalysisSchema))
    notice = fields.String()


class StudyListSchema(ma.Schema):
    """One page of studies, newest first."""

    items = fields.List(fields.Nested(StudySummarySchema))
    next_cursor = fields.String(allow_none=True)
    links = fields.Nested(ListLinksSchema)
    notice = fields.String()


class FeedbackSchema(ma.Schema):
    """One assessment by a reader; the same fields as in the manifest of the ZIP."""

    id = fields.UUID()
    path = fields.String(allow_none=True)
    label = fields.String(allow_none=True)
    finding = fields.String(metadata={"description": "What it is, where the label is `other`."})
    group = fields.String(metadata={"description": "Pseudonym of the patient."})
    image_id = fields.UUID(
        allow_none=True, metadata={"description": "null for the study as a whole."}
    )
    study_id = fields.UUID()
    analysis_id = fields.UUID(metadata={"description": "The analysis that the reader saw."})
    reader = fields.String(metadata={"description": "Pseudonym of the reader."})
    verdict = fields.String()
    confidence = fields.String(allow_none=True)
    comment = fields.String()
    region = fields.List(fields.List(fields.Float()), allow_none=True)
    predicted_label = fields.String()
    predicted_probability = fields.Float()
    model = fields.String()
    model_sha256 = fields.String()
    created_at = fields.String()
    links = fields.Nested(ImageLinksSchema, allow_none=True)


class KeptFeedbackSchema(FeedbackSchema):
    """What was kept: the first, and with `image_ids` all of them."""

    assessments = fields.List(fields.Nested(FeedbackSchema))


class FeedbackListSchema(ma.Schema):
    """One page of current assessments, newest first."""

    items = fields.List(fields.Nested(FeedbackSchema))
    next_cursor = fields.String(allow_none=True)
    links = fields.Nested(ListLinksSchema)
    notice = fields.String()
