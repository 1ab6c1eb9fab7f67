"""Why a file was refused, as a sentence that says what is wrong and what is accepted."""

from flask_babel import gettext as _

from ml.imaging import PICTURE_FORMATS, Limits


def refusal(code: str, limits: Limits) -> str:
    """The sentence for a code of :class:`ml.errors.UnreadableImage`."""
    sentences = {
        "empty": _("The file is empty."),
        "unsupported": _("This is not an image that the portal can read."),
        "truncated": _("The image is damaged or incomplete."),
        "animated": _("Animated images are not accepted."),
        "too_many_pixels": _("The image has too many pixels."),
        "too_small": _("The image is too small to show a brain."),
        "too_large": _("The file is too large."),
        "blank": _("The image is blank: all its pixels have the same value."),
    }
    accepted = _(
        "Accepted are %(formats)s images, 8 or 16 bit, grey or colour, of at least %(side)d pixels "
        "on each side, up to %(mega)d megapixels and %(size)d MB.",
        formats=" / ".join(PICTURE_FORMATS),
        side=limits.min_side,
        mega=limits.max_pixels // 1_000_000,
        size=limits.max_bytes // 2**20,
    )
    return f"{sentences.get(code) or sentences['unsupported']} {accepted}"
