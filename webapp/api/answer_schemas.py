"""Schemas of the API's responses, for serialisation and for the OpenAPI description."""

import marshmallow as ma
from marshmallow import fields, validate

from ml.labels import LABELS
from webapp.api.fields import Written
from webapp.studies.models import Mode, Priority, Status
from webapp.wording import QUALITY

_LABEL = validate.OneOf([label.value for label in LABELS])


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


class LinksSchema(ma.Schema):
    """Related paths on this server."""

    self = fields.String()
    page = fields.String(metadata={"description": "For people, with a browser."})


class ListLinksSchema(ma.Schema):
    """Paths of this page and the next page of a list."""

    self = fields.String()
    next = fields.String(allow_none=True)


class ImageLinksSchema(ma.Schema):
    """Paths of the image's pixels and heatmap."""

    pixels = fields.String(metadata={"description": "The image at full bit depth, PNG."})
    heatmap = fields.String(allow_none=True, metadata={"description": "An overlay, PNG."})


class ModelSchema(ma.Schema):
    """The model version that produced a result."""

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
    """The model's result for one image."""

    ood_score = fields.Float()
    quality = fields.List(
        fields.String(validate=validate.OneOf(list(QUALITY))),
        metadata={"description": "Faults of image quality; empty if there are none."},
    )
    model = fields.Nested(ModelSchema)


class StudyFindingSchema(FindingSchema):
    """The result of one analysis for the whole study."""

    analysis_id = fields.UUID()
    named = fields.List(
        fields.String(),
        metadata={"description": "Every class that the headline names, the label first."},
    )
    headline = fields.String(metadata={"description": "The same in words, translated."})


class ResultSchema(StudyFindingSchema):
    """The current result for the whole study."""

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
    """A series of images."""

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
    """A file that was not stored."""

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
    """One analysis of a study's images by one model version."""

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
    """An analysis that is no longer the current one, with its result."""

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
    """One reader's assessment, with the same fields as in the manifest of the ZIP export."""

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
    model_shown = fields.Boolean(
        metadata={"description": "Whether the reader had been shown the model's answer."}
    )
    predicted_label = fields.String()
    predicted_probability = fields.Float()
    model = fields.String()
    model_sha256 = fields.String()
    created_at = fields.String()
    links = fields.Nested(ImageLinksSchema, allow_none=True)


class KeptFeedbackSchema(FeedbackSchema):
    """What was stored: the first assessment, and with `image_ids` also the list of all."""

    assessments = fields.List(fields.Nested(FeedbackSchema))


class FeedbackListSchema(ma.Schema):
    """One page of current assessments, newest first."""

    items = fields.List(fields.Nested(FeedbackSchema))
    next_cursor = fields.String(allow_none=True)
    links = fields.Nested(ListLinksSchema)
    notice = fields.String()
