"""Why a file was refused, as a sentence that says what is wrong and what is accepted."""

from flask_babel import gettext as _

from ml.imaging import ACCEPTED_FORMATS, Limits
from webapp.wording import FILE_PROBLEMS


def refusal(code: str, limits: Limits) -> str:
    """The sentence for a code of :class:`ml.errors.UnreadableImage`."""
    accepted = _(
        "Files must be %(formats)s, with at least %(side)d pixels on each side and no more than "
        "%(mega)d megapixels and %(size)d MB.",
        formats=" / ".join(ACCEPTED_FORMATS),
        side=limits.min_side,
        mega=limits.max_pixels // 1_000_000,
        size=limits.max_bytes // 2**20,
    )
    return f"{FILE_PROBLEMS.get(code) or FILE_PROBLEMS['unsupported']} {accepted}"
