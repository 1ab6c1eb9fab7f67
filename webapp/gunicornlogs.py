"""Gunicorn's own log; Gunicorn alone imports this, since a worker's machine may not have it."""

import sys
from typing import Any

from gunicorn.glogging import Logger  # type: ignore[import-untyped]

from webapp.logs import DiscreetFormatter


class DiscreetLogger(Logger):
    """Does not repeat request lines, headers and bytes of bodies."""

    def setup(self, cfg: Any) -> None:
        """Write exceptions without their texts."""
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(DiscreetFormatter(self.error_fmt, self.datefmt))

    def warning(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Of a request that cannot be read: who sent it, and what is wrong in one word."""
        if str(msg).startswith("Invalid request from ip="):
            kind = sys.exc_info()[0]
            msg = f"{str(msg).partition(': ')[0]}: {kind.__name__ if kind else 'unreadable'}"
            args = ()
        super().warning(msg, *args, **kwargs)

    def debug(self, msg: object, *args: object, **kwargs: Any) -> None:
        """What happens, without the paths and errors that it happens with."""
        super().debug(str(msg).replace("%s", "…") if args else msg, **kwargs)

    def exception(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Without the address that the request was sent to."""
        if isinstance(msg, BaseException):
            msg, args = type(msg).__name__, ()
        elif str(msg).startswith("Error handling request"):
            msg, args = "Error handling a request", ()
        super().exception(msg, *args, **kwargs)
