"""Messages that say why a file was refused and what is accepted."""

from flask_babel import gettext as _

from ml.imaging import ACCEPTED_FORMATS, Limits
from webapp.wording import FILE_PROBLEMS

_OF_THE_FILE_AS_A_WHOLE = frozenset(
    {"unsupported", "animated", "too_small", "too_large", "too_many_pixels"}
)


def refusal(code: str, limits: Limits) -> str:
    """The message for a code of :class:`ml.errors.UnreadableImage`.

    The accepted formats and sizes are added if another format or size would help.
    """
    problem = FILE_PROBLEMS.get(code)
    if problem is not None and code not in _OF_THE_FILE_AS_A_WHOLE:
        return str(problem)
    accepted = _(
        "Files must be %(formats)s, with at least %(side)d pixels on each side and no more than "
        "%(mega)d megapixels and %(size)d MB.",
        formats=" / ".join(ACCEPTED_FORMATS),
        side=limits.min_side,
        mega=limits.max_pixels // 1_000_000,
        size=limits.max_bytes // 2**20,
    )
    return f"{problem or FILE_PROBLEMS['unsupported']} {accepted}"
