"""What can go wrong in the portal, as a small tree; pages and the API answer it in one place."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Self


class PortalError(Exception):
    """Base of every error that an operation raises on purpose.

    ``status`` is the HTTP status; ``code`` a stable word for the API; the text is one translated
    sentence for the person at the screen.
    """

    status = 400
    code = "bad-request"

    def __init__(self, message: str, *, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fields = dict(fields or {})


class InvalidInput(PortalError):
    """A value is missing or cannot be taken; ``fields`` says which."""

    status = 422
    code = "invalid-input"

    @classmethod
    def of_form(cls, errors: Mapping[str | None, Iterable[object]]) -> Self:
        """What a form found: its errors by field."""
        fields = {name: " ".join(map(str, found)) for name, found in errors.items() if name}
        return cls(next(iter(fields.values())), fields=fields)


class RefusedUpload(PortalError):
    """A file is not an image that the portal takes."""

    status = 422
    code = "refused-upload"


class QuestionableUpload(PortalError):
    """A person has to look at the pixels first; ``regions`` says where, by the file's name.

    Each region is (left, top, right, bottom) in fractions of width and height.
    """

    status = 422
    code = "text-in-pixels"

    def __init__(
        self,
        message: str,
        *,
        regions: Mapping[str, Sequence[tuple[float, float, float, float]]],
    ) -> None:
        super().__init__(message, fields=dict.fromkeys(regions, message))
        self.regions = {name: [list(region) for region in found] for name, found in regions.items()}


class TooLarge(PortalError):
    """The request or a file in it is over the limit."""

    status = 413
    code = "too-large"


class NotFound(PortalError):
    """There is no such thing, or it is another organisation's."""

    status = 404
    code = "not-found"


class NotAllowed(PortalError):
    """The person's role does not reach that far."""

    status = 403
    code = "not-allowed"


class Conflict(PortalError):
    """The state has changed, or the same key was used for something else."""

    status = 409
    code = "conflict"
