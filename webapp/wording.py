"""Words for values in the database: classes, statuses, reasons. All are translated."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from babel import Locale
from babel.lists import format_list
from flask import Flask
from flask_babel import LazyString, get_locale
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l

# Probability from which the likeliest class stands out, even if others are not ruled out.
_STANDS_OUT = 0.8
NO_TUMOR = "no_tumor"

LABELS: Mapping[str, LazyString] = {
    "glioma": _l("Glioma"),
    "meningioma": _l("Meningioma"),
    "no_tumor": _l("No tumour"),
    "pituitary": _l("Pituitary tumour"),
}

STATUSES: Mapping[str, LazyString] = {
    "queued": _l("Waiting"),
    "running": _l("Being analysed"),
    "done": _l("Done"),
    "failed": _l("Failed"),
    "rejected": _l("Rejected"),
}
# Statuses of an analysis; unlike a study it can be superseded.
ANALYSIS_STATUSES: Mapping[str, LazyString] = {**STATUSES, "superseded": _l("Superseded")}

PRIORITIES: Mapping[str, LazyString] = {"routine": _l("Routine"), "urgent": _l("Urgent")}

ROLES: Mapping[str, LazyString] = {
    "clinician": _l("Clinician"),
    "reviewer": _l("Reviewer"),
    "steward": _l("Data steward"),
    "admin": _l("Administrator"),
}

VERDICTS: Mapping[str, LazyString] = {
    "agree": _l("Agree"),
    "disagree": _l("Disagree"),
    "unsure": _l("Unsure"),
}

CONFIDENCES: Mapping[str, LazyString] = {
    "low": _l("Low"),
    "medium": _l("Medium"),
    "high": _l("High"),
}

# Why a study is deleted (webapp.corrections.operations.DeletionReason).
DELETION_REASONS: Mapping[str, LazyString] = {
    "wrong_patient": _l("Wrong patient"),
    "uploaded_twice": _l("Uploaded twice"),
    "patient_request": _l("The patient asked for it"),
    "test": _l("It was a test"),
    "other": _l("Something else"),
}

# Why an assessed slice is not in a snapshot (webapp.learning.learnable, ml.dataset.snapshot).
LEFT_OUT: Mapping[str, LazyString] = {
    "single_reader": _l("Only one reader"),
    "not_independent": _l("Readers agree, but had seen each other’s assessments"),
    "flagged_reader": _l("A reader is flagged"),
    "disputed": _l("Readers disagree"),
    "unsure": _l("Readers are unsure"),
    "other": _l("None of the model’s classes"),
    "withdrawn": _l("The patient has been withdrawn"),
    "damaged": _l("The image cannot be read"),
    "listed twice": _l("The same image again"),
    "same image, other label or patient": _l("The same image with another label or patient"),
    "group of the same name": _l("The patient is held out"),
    "group with copies (exact)": _l("The patient has copies of slices that are held out"),
    "group with copies (near)": _l("The patient has near copies of slices that are held out"),
    "group with copies (mirrored)": _l("The patient has mirror images of slices that are held out"),
}

# A reader's answer that is none of the model's classes (Assessment.label, "other").
OTHER_LABEL = _l("Something else")

# Suggestions for that answer; the keys are stored whatever the language.
FINDINGS: Mapping[str, LazyString] = {
    "haemorrhage": _l("haemorrhage"),
    "stroke": _l("stroke"),
    "metastasis": _l("metastasis"),
    "abscess": _l("abscess"),
    "demyelination": _l("demyelination"),
    "cyst": _l("cyst"),
    "postoperative": _l("post-operative change"),
    "artefact": _l("artefact"),
    "not_a_brain": _l("not a brain"),
    "cannot_be_judged": _l("cannot be judged"),
}

# Image quality flags (Prediction.quality; ml.serving.quality.QualityFlag).
QUALITY: Mapping[str, LazyString] = {
    "too_small": _l("The head fills too little of the image, so detail is lost."),
    "saturated": _l("Bright areas are saturated, so detail in them is lost."),
    "mostly_black": _l("The image is almost entirely black."),
    "low_contrast": _l("Contrast is poor: there are only a few shades of grey."),
    "blurred": _l("The image is blurred."),
    "motion": _l("There is ghosting beside the head, as from movement."),
    "noisy": _l("The image is noisy."),
    "several_slices": _l("The image shows several slices; upload each by itself."),
    "cut_off": _l("Part of the image seems to be missing: its lower rows all have one value."),
}

# Codes of ml.errors.UnreadableImage: why a file could not be read.
FILE_PROBLEMS: Mapping[str, LazyString] = {
    "empty": _l("The file is empty."),
    "unsupported": _l("This is not an image that the portal can read."),
    "truncated": _l("The image is damaged or incomplete."),
    "animated": _l("Animated images are not accepted."),
    "too_many_pixels": _l("The image has too many pixels."),
    "too_small": _l("The image is too small to show a brain."),
    "too_large": _l("The file is too large."),
    "blank": _l("The image is blank: all its pixels have the same value."),
    "no_pixels": _l("This DICOM object contains no image."),
    "not_mr": _l("This is not an MR image."),
    "colour_capture": _l("Colour screenshots are not accepted as brain MRI."),
    "unsupported_transfer_syntax": _l("The image uses a form of compression that cannot be read."),
    "too_many_slices": _l("The file contains too many slices."),
    "header_lies": _l("The file's header does not match the data it contains."),
    "four_dimensional": _l("Time series (4D volumes) are not accepted; send a single volume."),
    "colour_volume": _l("Colour volumes are not accepted."),
    "header_only": _l(
        "This is only the header of a volume; send the volume as a single .nii file."
    ),
    "detached_header": _l(
        "The voxels of this NRRD header are in another file, which is not inside; save the volume "
        "as a single .nrrd file."
    ),
    "more_frames": _l("The file contains more frames than its header states."),
    "cifti": _l("CIFTI files contain surface values, not images; send the volume."),
    "no_voxels": _l("The file's header gives one axis of the volume a length of 0."),
    "voxel_size": _l(
        "The voxel size in the file's header is impossible for a head; its units may be wrong."
    ),
    "no_orientation": _l("The file's header does not say how the volume lies in the head."),
    "archive_method": _l(
        "The file uses a form of compression that cannot be opened; pack it as an ordinary ZIP."
    ),
    "archive_damaged": _l("The archive is damaged or incomplete."),
    "archive_encrypted": _l("The compressed file is password-protected."),
    "archive_too_large": _l("The compressed file becomes too large when unpacked."),
    "archive_too_deep": _l("Compressed files are nested too deeply inside one another."),
    "archive_empty": _l("The compressed file contains nothing that could be an image."),
    "link": _l("Links and devices in an archive are not followed; they contain no images."),
    "sample_type": _l(
        "The image stores its pixels in an uncommon way, such as floating-point, signed or 32-bit "
        "values; save it with 8 or 16 bits per channel, or send the volume as NIfTI."
    ),
    "reduced_copy": _l("A reduced copy of another page of the file."),
    "seven_zip": _l("7z archives cannot be opened; pack the files as ZIP or tar."),
    "rar": _l("RAR archives cannot be opened; pack the files as ZIP or tar."),
    "zstd": _l("Files compressed with Zstandard cannot be opened; pack them as ZIP or tar."),
    "bmp": _l("BMP images are not accepted; export the image as DICOM or save it as PNG."),
    "gif": _l("GIF images are not accepted; export the image as DICOM or save it as PNG."),
    "avif": _l("AVIF images are not accepted; export the image as DICOM or save it as PNG."),
    "pdf": _l("This is a PDF document; export its images as DICOM or PNG."),
    "office": _l("This is an Office document; export its images as DICOM or PNG."),
    "video": _l("Videos are not accepted; export the slices as DICOM, NIfTI or PNG."),
    "dicom_video": _l(
        "This DICOM file contains a video; export its frames as a DICOM series or as PNG."
    ),
    "burned_in": _l("Text in the image may identify the patient."),
    "junk": _l("Operating systems and discs add such files; they contain no images."),
    "duplicate": _l("Identical to another file in this upload."),
    "other_content": _l("Another image with the same DICOM identifier has different pixels."),
    "burned_in_unseen": _l(
        "Its header says that the image identifies the patient, but no text was found to black out."
    ),
}

# How slices are ordered if their positions are unknown (ml.imaging.series.Order).
GUESSED_ORDERS: Mapping[str, LazyString] = {
    "number": _l(
        "The order of the slices is a guess: the files do not say where in the head they lie, so "
        "they are sorted by image number."
    ),
    "given": _l(
        "The order of the slices is a guess: the files do not say where in the head they lie, so "
        "they are shown in the order in which they arrived."
    ),
}

# Why a study has no answer (Study.reason, Analysis.reason, Image.problem).
REASONS: Mapping[str, LazyString] = {
    **FILE_PROBLEMS,
    "blank": _l(
        "The image is blank: all its pixels have the same value. Upload a different image."
    ),
    "no_usable_image": _l("None of the images could be analysed. Upload different images."),
    "unreadable": _l("The stored image can no longer be read. Please upload it again."),
    "moved_away": _l("All images of this study were moved to another study."),
    "model_unavailable": _l(
        "The model is not available on this server. Please contact an administrator."
    ),
    "model_off": _l(
        "The model is switched off in this organisation: the images can be viewed, but no result "
        "is given."
    ),
    "out_of_memory": _l("The server ran out of memory. Please try again later."),
    "gave_up": _l(
        "The analysis was interrupted several times and has been abandoned. Please try again."
    ),
    "internal": _l("The analysis failed; the cause has been recorded. Please try again."),
}

DEPLOYMENTS: Mapping[str, LazyString] = {
    "promotion": _l("promoted"),
    "canary": _l("on trial"),
    "rollback": _l("rolled back"),
    "off": _l("switched off"),
    "on": _l("switched on"),
}

SHADOWS: Mapping[str, LazyString] = {
    "running": _l("running"),
    "finished": _l("finished"),
    "stopped": _l("stopped"),
}

RECALLS: Mapping[str, LazyString] = {
    "running": _l("running"),
    "paused": _l("paused"),
    "done": _l("finished"),
    "stopped": _l("stopped"),
    "withdrawn": _l("withdrawn, as its model was rolled back"),
}

CHANGES: Mapping[str, LazyString] = {
    "tumour_found": _l("A tumour where none was found"),
    "class_changed": _l("Another class"),
    "less_ruled_out": _l("A tumour that is no longer ruled out"),
}

GATE_STATES: Mapping[str, LazyString] = {
    "queued": _l("waiting"),
    "running": _l("running"),
    "passed": _l("passed"),
    "failed": _l("not passed"),
    "broken": _l("without a verdict"),
}

RETRAININGS: Mapping[str, LazyString] = {
    "queued": _l("waiting"),
    "running": _l("running"),
    "done": _l("finished"),
    "failed": _l("failed"),
    "cancelled": _l("cancelled"),
}

# What may change in a retraining (ml.release.change_plan.MODES).
RETRAINING_MODES: Mapping[str, LazyString] = {
    "head": _l("The last layer alone"),
    "full": _l("The last layers, beside the base collection"),
}

SNAPSHOT_STATES: Mapping[str, LazyString] = {
    "queued": _l("waiting"),
    "making": _l("being made"),
    "done": _l("finished"),
    "failed": _l("failed"),
}

PLAN_VERDICTS: Mapping[str, LazyString] = {
    "confirmed": _l("confirmed"),
    "declined": _l("declined"),
}

VERDICTS_OF_GATES: Mapping[str, LazyString] = {
    "pass": _l("passed"),
    "fail": _l("not passed"),
    "not_measured": _l("not measured"),
}


def word(table: Mapping[str, LazyString], value: str | None) -> LazyString | str:
    """The word for ``value``, or the value itself if it has none."""
    return table.get(value, value) if value else ""


def diagnosis(label: str | None, finding: str) -> LazyString | str:
    """A reader's diagnosis in words; a finding that the reader typed stays as it is."""
    return word(FINDINGS, finding) if finding else word(LABELS, label)


def order_note(order: str | None, count: int) -> str:
    """Says that the order of ``count`` slices is a guess, and by what; empty if it is not one."""
    return str(word(GUESSED_ORDERS, order)) if order in GUESSED_ORDERS and count > 1 else ""


def scope_sentence() -> str:
    """Which diseases the model recognises; shown next to every answer."""
    return str(
        _(
            "The model recognises glioma, meningioma and pituitary tumour only, not stroke, "
            "haemorrhage, metastasis or any other disease."
        )
    )


def familiar_share(share: str, *, are_slices: bool) -> str:
    """How much of a study resembles the training data; ``share`` is a formatted percentage."""
    if are_slices:
        return str(
            _(
                "%(share)s of the slices resemble the brain MRI the model was trained on.",
                share=share,
            )
        )
    return str(
        _("%(share)s of the images resemble the brain MRI the model was trained on.", share=share)
    )


def doubt_sentence(
    called: str | None,
    prediction_set: Sequence[str],
    probabilities: Mapping[str, float],
    *,
    against: Iterable[str] = (),
) -> str:
    """A prediction set as a sentence.

    Args:
        called: the class given as the answer.
        prediction_set: classes that are not ruled out, likeliest first.
        probabilities: class -> calibrated probability.
        against: other classes that images of the same study suggest.
    """
    if others := [label for label in against if label != called]:
        labels = both([str(called), *others])
        return str(_("Different images suggest different tumours: %(labels)s.", labels=labels))
    if not prediction_set:
        return str(_("None of the classes fits well, so the result is unreliable."))
    likeliest, *rest = prediction_set
    if not rest:
        if likeliest == NO_TUMOR:
            return str(
                _(
                    "The model is fairly certain that none of the three tumours it recognises is "
                    "visible."
                )
            )
        return str(_("The model is fairly certain: %(label)s.", label=word(LABELS, likeliest)))
    if called != likeliest:
        return str(
            _(
                "A tumour is not ruled out; the most likely would be: %(label)s.",
                label=word(LABELS, called),
            )
        )
    if probabilities[likeliest] >= _STANDS_OUT:
        return str(
            _(
                "Most likely: %(label)s. Not ruled out: %(others)s.",
                label=word(LABELS, likeliest),
                others=both(rest),
            )
        )
    return str(_("The model cannot distinguish between: %(labels)s.", labels=both(prediction_set)))


def both(labels: Sequence[str]) -> str:
    """The class names joined by "and", in the user's language."""
    return joined([str(word(LABELS, one)) for one in labels], "standard")


def either(labels: Sequence[str]) -> str:
    """The class names joined by "or", in the user's language."""
    return joined([str(word(LABELS, one)) for one in labels], "or")


def joined(words: Sequence[str], style: Literal["standard", "or"]) -> str:
    """A list in the style of the user's language; all but the first word in lower case."""
    locale = get_locale() or Locale("en", "GB")
    rest = list(words[1:])
    if locale.language != "de":  # German writes nouns with a capital letter
        rest = [one[:1].lower() + one[1:] for one in rest]
    return format_list([*words[:1], *rest], style=style, locale=locale)


def init_app(app: Flask) -> None:
    """Offer the words to templates as filters, such as ``{{ study.status|status_word }}``."""
    tables = {
        "label_word": LABELS,
        "status_word": ANALYSIS_STATUSES,
        "priority_word": PRIORITIES,
        "role_word": ROLES,
        "verdict_word": VERDICTS,
        "confidence_word": CONFIDENCES,
        "reason_word": REASONS,
        "deployment_word": DEPLOYMENTS,
        "shadow_word": SHADOWS,
        "recall_word": RECALLS,
        "change_word": CHANGES,
        "gate_state_word": GATE_STATES,
        "gate_verdict_word": VERDICTS_OF_GATES,
        "retraining_word": RETRAININGS,
        "retraining_mode_word": RETRAINING_MODES,
        "snapshot_state_word": SNAPSHOT_STATES,
        "plan_verdict_word": PLAN_VERDICTS,
        "quality_word": QUALITY,
        "finding_word": FINDINGS,
        "left_out_word": LEFT_OUT,
    }
    for name, table in tables.items():
        app.add_template_filter(lambda value, table=table: word(table, value), name)
    app.jinja_env.globals.update(
        LABEL_WORDS=LABELS,
        PRIORITY_WORDS=PRIORITIES,
        ROLE_WORDS=ROLES,
        STATUS_WORDS=STATUSES,
        VERDICT_WORDS=VERDICTS,
        CONFIDENCE_WORDS=CONFIDENCES,
        FINDING_WORDS=FINDINGS,
        OTHER_LABEL=OTHER_LABEL,
        diagnosis=diagnosis,
        doubt_sentence=doubt_sentence,
        familiar_share=familiar_share,
        scope_sentence=scope_sentence,
    )
