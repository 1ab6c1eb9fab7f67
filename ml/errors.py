"""Errors of ``ml``; the callers turn them into a page, JSON or an exit code."""


class SulcusMLError(Exception):
    """Base of every error that ``ml`` raises on purpose. Its text is one sentence for people."""


class UnreadableImage(SulcusMLError):
    """The content is not a readable image.

    ``code`` is a stable word for the reason, which the portal translates: ``empty``,
    ``unsupported``, ``truncated``, ``animated``, ``too_many_pixels``, ``too_small``,
    ``too_large``, ``missing`` or ``blank``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class MemoryBusy(SulcusMLError, MemoryError):
    """Too little memory is free while other files are being decoded; a retry can succeed."""


class InvalidManifest(SulcusMLError):
    """A manifest lacks a column, or names an unknown label or a missing file."""


class Cancelled(SulcusMLError):
    """Whoever asked for long work wants it no more; what is finished stays, and a rerun goes on."""


class InvalidModel(SulcusMLError):
    """Weights or card are missing, do not fit each other, or fail the hash check."""


class InvalidConfiguration(SulcusMLError):
    """A recipe or another configuration has an unknown key, a wrong type or a wrong value."""
