"""What can go wrong in the portal, as a small tree; pages and the API answer it in one place."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Self


class PortalError(Exception):
    """Base of every error that an operation raises on purpose.

    ``status`` is the HTTP status; ``code`` a stable word for the API; the text is one translated
    sentence for the person at the screen. ``extra`` holds further members of the problem document.
    """

    status = 400
    code = "bad-request"

    def __init__(
        self,
        message: str,
        *,
        fields: Mapping[str, str] | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.fields = dict(fields or {})
        self.extra = dict(extra or {})


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
        self.regions = {name: [list(region) for region in found] for name, found in regions.items()}
        super().__init__(
            message, fields=dict.fromkeys(regions, message), extra={"regions": self.regions}
        )


class QuestionableCode(InvalidInput):
    """The patient code looks like a name or a date of birth, and nobody said that it is none."""

    code = "patient-code-questioned"


class CodeConflict(InvalidInput):
    """The study is here already under another patient code; ``extra`` names both."""

    code = "patient-code-conflict"


class SeveralStudies(InvalidInput):
    """The files belong to several patients or studies; ``extra`` holds the groups."""

    code = "several-studies"


class TooLarge(PortalError):
    """The request or a file in it is over the limit."""

    status = 413
    code = "too-large"


class NotFound(PortalError):
    """There is no such thing, or it is another organisation's."""

    status = 404
    code = "not-found"


class ExpiredToken(PortalError):
    """The bearer token was good once."""

    status = 401
    code = "token-expired"


class NotAllowed(PortalError):
    """The person's role does not reach that far."""

    status = 403
    code = "not-allowed"


class Conflict(PortalError):
    """The state has changed, or the same key was used for something else."""

    status = 409
    code = "conflict"


class KnownContent(Conflict):
    """The images are here already; the uploader has to choose. ``extra`` names the studies."""

    code = "known-content"


class OtherPatient(InvalidInput):
    """A file names a study that the organisation holds of another patient."""

    code = "other-patient"


class OtherContent(Conflict):
    """Another image is kept under the identifier of this one."""

    code = "other-content"
