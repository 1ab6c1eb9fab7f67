"""What an exception may say in a log."""

import io
import logging
import sys

import pytest
from celery import Celery
from celery.app.log import TaskFormatter
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from tests.factories import make_account
from webapp.database import db
from webapp.logs import DiscreetFormatter, keep_quiet, told

MARK = "Zebrafink4711"


def test_an_exception_tells_where_and_of_which_kind_but_not_what() -> None:
    record = None
    try:
        try:
            int(MARK)
        except ValueError as error:
            raise KeyError(MARK) from error
    except KeyError:
        record = logging.LogRecord("x", 40, "x", 1, "it failed", (), sys.exc_info())
    assert record
    line = DiscreetFormatter("%(message)s").format(record)
    assert line.startswith("it failed")
    assert "builtins.ValueError" in line
    assert "builtins.KeyError" in line
    assert "test_logs.py" in line
    assert MARK not in line


def test_a_failing_task_repeats_nothing_of_what_it_was_given() -> None:
    app = Celery("test", broker="memory://", backend="cache+memory://")

    @app.task
    def fail(value: str) -> None:
        raise RuntimeError(f"cannot read {value}")

    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(TaskFormatter("%(task_name)s %(message)s", use_color=False))
    keep_quiet([handler])
    logger = logging.getLogger("celery.app.trace")
    logger.addHandler(handler)
    try:
        assert fail.apply((MARK,)).failed()
    finally:
        logger.removeHandler(handler)
    lines = written.getvalue()
    assert "raised unexpected: RuntimeError" in lines
    assert "test_logs.py" in lines
    assert MARK not in lines


def test_an_error_of_the_system_says_which() -> None:
    error = FileNotFoundError(2, "No such file or directory", f"/{MARK}")
    assert told(error) == "builtins.FileNotFoundError: No such file or directory"


@pytest.mark.parametrize(
    "statement",
    ["SELECT CAST(:mark AS DATE) / CAST(:mark AS INTEGER)", "SELECT name FROM nowhere WHERE :mark"],
)
def test_an_error_of_the_database_repeats_no_value(app: Flask, statement: str) -> None:
    first, second = make_account(app, email=f"{MARK}@x.example".lower()), make_account(app)
    with app.app_context():
        with pytest.raises(IntegrityError) as refused:
            db.session.execute(
                text('UPDATE "user" SET email = :email WHERE email = :old'),
                {"email": first.email, "old": second.email},
            )
        chain = f"{refused.value!r} {refused.value} {refused.value.orig}"
        assert first.email not in chain
        assert second.email not in chain
        db.session.rollback()
        try:
            db.session.execute(text(statement), {"mark": MARK})
        except SQLAlchemyError as error:
            assert MARK not in f"{error!r} {error} {getattr(error, 'orig', '')}"  # noqa: PT017
