"""Gunicorn's logger; only Gunicorn imports this, since the worker may not have it installed."""

import sys
from typing import Any

from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from config import WebServerSettings
from webapp.logs import DiscreetFormatter, JsonFormatter


class DiscreetLogger(Logger):
    """Logs no request lines, headers or bytes of bodies."""

    def setup(self, cfg: Any) -> None:
        """Format exceptions without their messages."""
        super().setup(cfg)
        if WebServerSettings.from_environment().log_format == "json":
            for handler in (*self.error_log.handlers, *self.access_log.handlers):
                handler.setFormatter(JsonFormatter())
            return
        for handler in self.error_log.handlers:
            handler.setFormatter(DiscreetFormatter(self.error_fmt, self.datefmt))

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:
        """For an unreadable request, log only its sender and the type of the error."""
        if str(msg).startswith("Invalid request from ip="):
            kind = sys.exc_info()[0]
            msg = f"{str(msg).partition(': ')[0]}: {kind.__name__ if kind else 'unreadable'}"
            args = ()
        super().warning(msg, *args, **kwargs)

    def debug(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log the message without its arguments, which may be paths and errors."""
        super().debug(str(msg).replace("%s", "…") if args else msg, **kwargs)

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log the exception without the request's URL."""
        if isinstance(msg, BaseException):
            msg, args = type(msg).__name__, ()
        elif str(msg).startswith("Error handling request"):
            msg, args = "Error handling a request", ()
        super().exception(msg, *args, **kwargs)
