"""The portal's domain errors; ``webapp.errorpages`` answers them for pages and the API."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Self


class PortalError(Exception):
    """Base of every error that an operation raises on purpose.

    ``status`` is the HTTP status; ``code`` is a stable word for the API; the message is one
    translated sentence for the user. ``extra`` holds further members of the problem document.
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
    """A value is missing or invalid; ``fields`` says which."""

    status = 422
    code = "invalid-input"

    @classmethod
    def of_form(cls, errors: Mapping[str | None, Iterable[object]]) -> Self:
        """Build the error from the errors of a form, by field."""
        fields = {name: " ".join(map(str, found)) for name, found in errors.items() if name}
        return cls(next(iter(fields.values())), fields=fields)

    @classmethod
    def of_field(cls, field: str, message: str) -> Self:
        """What is wrong with one field."""
        return cls(message, fields={field: message})


class RefusedUpload(PortalError):
    """A file is not an image that the portal accepts."""

    status = 422
    code = "refused-upload"


class QuestionableUpload(PortalError):
    """A person has to check the pixels first; ``regions`` says where, by file name.

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
    """The patient code looks like a name or a date of birth, and the user did not confirm it."""

    code = "patient-code-questioned"


class CodeConflict(InvalidInput):
    """The study already exists under another patient code; ``extra`` names both."""

    code = "patient-code-conflict"


class SeveralStudies(InvalidInput):
    """The files belong to several patients or studies; ``extra`` holds the groups."""

    code = "several-studies"


class TooLarge(PortalError):
    """The request, or a file in it, exceeds the limit."""

    status = 413
    code = "too-large"


class NotFound(PortalError):
    """The object does not exist or belongs to another organisation."""

    status = 404
    code = "not-found"


class ExpiredToken(PortalError):
    """The bearer token has expired."""

    status = 401
    code = "token-expired"


class NotAllowed(PortalError):
    """The user's role does not permit this."""

    status = 403
    code = "not-allowed"


class Conflict(PortalError):
    """The state has changed, or the same key was used for something else."""

    status = 409
    code = "conflict"


class KnownContent(Conflict):
    """The images already exist; the uploader has to choose. ``extra`` names the studies."""

    code = "known-content"


class OtherPatient(InvalidInput):
    """A file names a study that the organisation has under another patient."""

    code = "other-patient"


class OtherContent(Conflict):
    """Another image is stored under this image's identifier."""

    code = "other-content"
