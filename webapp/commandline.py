"""Error handling shared by all commands."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from sqlalchemy.exc import SQLAlchemyError

from webapp.errors import PortalError


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """Turn an expected error into one line and exit code 1."""
    try:
        yield
    except PortalError as error:
        raise click.ClickException(error.message) from error
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
        raise click.ClickException(f"The database cannot be used: {reason}") from error
