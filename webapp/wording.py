"""Words for the values that the database keeps: classes, states, reasons. All translated."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from babel import Locale
from babel.lists import format_list
from flask import Flask
from flask_babel import LazyString, get_locale
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l

# Probability from which the likeliest class stands out, even where others cannot be ruled out.
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
# What an analysis can be besides; a study never is.
ANALYSIS_STATUSES: Mapping[str, LazyString] = {**STATUSES, "superseded": _l("Superseded")}

PRIORITIES: Mapping[str, LazyString] = {"routine": _l("Routine"), "urgent": _l("Urgent")}

ROLES: Mapping[str, LazyString] = {
    "clinician": _l("Clinician"),
    "reviewer": _l("Reviewer"),
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

# What is wrong with a picture (Prediction.quality; ml.quality.QualityFlag).
QUALITY: Mapping[str, LazyString] = {
    "too_small": _l("The head is shown too small: details are missing."),
    "saturated": _l("Bright areas are cut off: what they hold cannot be seen."),
    "mostly_black": _l("The picture is nearly all black."),
    "low_contrast": _l("The contrast is low: there are only a few shades of grey."),
    "blurred": _l("The picture is blurred."),
    "motion": _l("There are ghosts beside the head, as if it had moved."),
    "noisy": _l("The picture is noisy."),
}

# Why a study ended without an answer (Study.reason, Analysis.reason, Image.problem).
# Codes of ml.errors.UnreadableImage: why a file could not be taken in.
FILE_PROBLEMS: Mapping[str, LazyString] = {
    "empty": _l("The file is empty."),
    "unsupported": _l("This is not an image that the portal can read."),
    "truncated": _l("The image is damaged or incomplete."),
    "animated": _l("Animated images are not accepted."),
    "too_many_pixels": _l("The image has too many pixels."),
    "too_small": _l("The image is too small to show a brain."),
    "too_large": _l("The file is too large."),
    "blank": _l("The image is blank: all its pixels have the same value."),
    "no_pixels": _l("This DICOM object holds no image."),
    "not_mr": _l("This is not a magnetic resonance image."),
    "colour_capture": _l("Colour screenshots are not accepted as brain MRI."),
    "unsupported_transfer_syntax": _l("The image is compressed in a way that cannot be read."),
    "too_many_slices": _l("There are too many slices in one file."),
    "header_lies": _l("The file's header promises more or other data than the file holds."),
    "more_frames": _l("The file holds more frames than its header says, so some would be lost."),
    "four_dimensional": _l("Volumes that change over time are not accepted; send one of them."),
    "colour_volume": _l("Colour volumes are not accepted."),
    "header_only": _l("This is only the header of a volume; send it as one .nii file."),
    "cifti": _l("CIFTI files hold values of the brain's surface, not images; send the volume."),
    "no_voxels": _l("The file's header gives one axis of the volume a length of 0."),
    "voxel_size": _l(
        "The file's header gives voxels a size that no image of a head has; its units may be wrong."
    ),
    "no_orientation": _l("The file's header does not say how the volume lies in the head."),
    "archive_encrypted": _l("The archive is protected by a password."),
    "archive_too_large": _l("The archive grows too large when it is opened."),
    "archive_too_deep": _l("Archives inside of archives are not opened any deeper."),
    "archive_method": _l(
        "The archive is compressed in a way that the portal cannot open; pack it as ordinary ZIP."
    ),
    "archive_empty": _l("There is no file in the archive that could be an image."),
    "burned_in": _l("Its pixels may name the patient."),
    "junk": _l("Operating systems and discs add such files; they hold no images."),
    "duplicate": _l("It holds the same as another file of this upload."),
    "other_content": _l(
        "Another image with the same DICOM identifier is here already, and its pixels differ."
    ),
    "burned_in_unseen": _l(
        "It says that its pixels name the patient, but no text was found to black out."
    ),
}

REASONS: Mapping[str, LazyString] = {
    **FILE_PROBLEMS,
    "blank": _l("The image is blank: all its pixels have the same value. Upload another slice."),
    "no_usable_image": _l("None of the images could be analysed. Upload other slices."),
    "unreadable": _l("The stored image can no longer be read. Please upload it again."),
    "model_unavailable": _l(
        "The model is not available on this server. An administrator has to look at it."
    ),
    "out_of_memory": _l("The server ran out of memory. Please try again later."),
    "gave_up": _l(
        "The analysis was interrupted several times and has been given up. Please try again."
    ),
    "internal": _l("The analysis failed for a reason that was recorded. Please try again."),
}


def word(table: Mapping[str, LazyString], value: str | None) -> LazyString | str:
    """The word for ``value``; the value itself where there is none."""
    return table.get(value, value) if value else ""


def scope_sentence() -> str:
    """What the model can see at all; stands wherever an answer does."""
    return str(
        _(
            "The model knows glioma, meningioma and pituitary tumour. It knows no other disease, "
            "such as stroke, haemorrhage or metastasis."
        )
    )


def doubt_sentence(
    called: str | None,
    prediction_set: Sequence[str],
    probabilities: Mapping[str, float],
    *,
    against: Iterable[str] = (),
) -> str:
    """What a prediction set says, as a sentence.

    Args:
        called: the class that is said.
        prediction_set: classes that cannot be ruled out, likeliest first.
        probabilities: class -> calibrated probability.
        against: other classes, which images of the same study speak for.
    """
    if others := [label for label in against if label != called]:
        labels = both([str(called), *others])
        return str(_("Different slices suggest different tumours: %(labels)s.", labels=labels))
    if not prediction_set:
        return str(_("None of the classes fits well; the model makes no suggestion."))
    likeliest, *rest = prediction_set
    if not rest:
        if likeliest == NO_TUMOR:
            return str(
                _("The model is fairly certain that none of the three tumours it knows is visible.")
            )
        return str(_("The model is fairly certain: %(label)s.", label=word(LABELS, likeliest)))
    if called != likeliest:
        return str(
            _(
                "A tumour is not ruled out; the most likely one would be: %(label)s.",
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
    """The classes joined by "and", in the reader's language."""
    return joined([str(word(LABELS, one)) for one in labels], "standard")


def either(labels: Sequence[str]) -> str:
    """The classes joined by "or", in the reader's language."""
    return joined([str(word(LABELS, one)) for one in labels], "or")


def joined(words: Sequence[str], style: Literal["standard", "or"]) -> str:
    """A list as the reader's language writes it; in lower case but for the first word."""
    locale = get_locale() or Locale("en")
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
        "quality_word": QUALITY,
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
        doubt_sentence=doubt_sentence,
        scope_sentence=scope_sentence,
    )
