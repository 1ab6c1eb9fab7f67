"""Fixtures for all tests: real databases, a real Redis, no stand-ins for our own code."""

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, TypeVar

import flask_migrate
import pytest
from argon2 import PasswordHasher
from flask import Flask
from flask.testing import FlaskClient
from jinja2 import FileSystemBytecodeCache
from sqlalchemy import Engine, create_engine, make_url, text
from werkzeug.routing import Rule

from config import Settings
from tests.broker import running_broker
from tests.factories import Account, make_account
from webapp import create_app
from webapp.accounts import passwords
from webapp.accounts.models import Role
from webapp.database import db

# Tests run in several processes (pytest-xdist); each counts on one core, and so do the processes
# that it starts. Said before anything imports torch.
WORKER = os.environ.get("PYTEST_XDIST_WORKER")
if WORKER:
    os.environ["OMP_NUM_THREADS"] = "1"

FORBID_SKIP = os.environ.get("SULCUS_TESTS_FORBID_SKIP") == "1"
Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)
POSTGRES_URL = os.environ.get("SULCUS_TEST_POSTGRES_URL")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--data-root", type=Path, default=None, help="the folder of public data sets")
    parser.addoption(
        "--schemathesis-examples",
        type=int,
        default=None,
        help="a long run of calls to the API, with so many for each operation",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _skip_is_failure((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _skip_is_failure((yield))


def _skip_is_failure(report: Report) -> Report:
    """Where everything is meant to be there, a skipped test is one that was not run."""
    if FORBID_SKIP and report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"Skipping is forbidden here (SULCUS_TESTS_FORBID_SKIP=1). {reason}"
    return report


@pytest.fixture(scope="session")
def data_root(request: pytest.FixtureRequest) -> Path:
    """The folder given with ``--data-root``."""
    root: Path | None = request.config.getoption("--data-root")
    if root is None or not root.is_dir():
        pytest.skip("needs the data folder: --data-root=FOLDER")
    return root.resolve()


def make_settings(home: Path, **environment: str) -> Settings:
    """Settings of a portal that keeps everything in ``home`` and has no broker."""
    return Settings.from_environment(
        {
            "SULCUS_HOME": str(home),
            "SULCUS_BROKER_URL": f"redis+socket://{home}/no-broker.sock",
            "SULCUS_LOG_LEVEL": "WARNING",
            **environment,
        }
    )


def migrate(settings: Settings) -> None:
    """Bring the database to what the models are, the way an installation does."""
    app = create_app(settings)
    with app.app_context():
        flask_migrate.upgrade()
        db.engine.dispose()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database file with all tables, to be copied: much faster than migrating it."""
    settings = make_settings(tmp_path_factory.mktemp("template"))
    migrate(settings)
    path = settings.home / "sulcus.sqlite3"
    with create_engine(settings.database_url).connect() as connection:
        connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
    return path


@pytest.fixture(scope="session")
def migrated_postgres(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the PostgreSQL database for tests, with all tables."""
    if not POSTGRES_URL:
        pytest.skip("needs PostgreSQL: SULCUS_TEST_POSTGRES_URL is not set")
    if not (make_url(POSTGRES_URL).database or "").endswith("test"):
        pytest.fail("SULCUS_TEST_POSTGRES_URL is emptied: its database's name must end in 'test'")
    url = _own_postgres(POSTGRES_URL)
    migrate(make_settings(tmp_path_factory.mktemp("pg"), SULCUS_DATABASE_URL=url))
    return url


def _own_postgres(address: str) -> str:
    """An empty database: the one at ``address``, or beside it one for each process of tests."""
    engine = create_engine(address, isolation_level="AUTOCOMMIT")
    named = make_url(address)
    with engine.connect() as connection:
        if WORKER:
            named = named.set(database=f"{WORKER}_{named.database}")
            connection.execute(text(f'DROP DATABASE IF EXISTS "{named.database}" WITH (FORCE)'))
            connection.execute(text(f'CREATE DATABASE "{named.database}"'))
        else:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return named.render_as_string(hide_password=False)


@pytest.fixture(scope="session", autouse=True)
def shared_engines() -> Iterator[None]:
    """One engine for each address: it keeps the statements that it has compiled once."""
    made: dict[str, Engine] = {}
    make = db._make_engine

    def make_once(bind: str | None, options: dict[str, Any], app: Flask) -> Engine:
        address = make_url(options["url"]).render_as_string(hide_password=False)
        if address not in made:
            made[address] = make(bind, options, app)
        return made[address]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(db, "_make_engine", make_once)
        yield


@pytest.fixture(scope="session", autouse=True)
def compiled_addresses() -> Iterator[None]:
    """Werkzeug compiles two functions for each rule of an application: once is enough."""
    made: dict[tuple[object, ...], Callable[..., tuple[str, str]]] = {}
    compile_builder = Rule._compile_builder

    def compile_once(rule: Rule, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        key = (rule.rule, rule.subdomain, rule.host, repr(rule.defaults), append_unknown)
        if key not in made:
            made[key] = compile_builder(rule, append_unknown)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rule, "_compile_builder", compile_once)
        yield


@pytest.fixture(scope="session")
def sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each test finds its database."""
    return tmp_path_factory.mktemp("sqlite") / "test.sqlite3"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty, migrated database for each test, on both kinds of server."""
    if request.param == "sqlite":
        path: Path = request.getfixturevalue("sqlite_file")
        for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            name.unlink(missing_ok=True)
        shutil.copyfile(request.getfixturevalue("migrated_sqlite"), path)
        return f"sqlite:///{path}"
    url: str = request.getfixturevalue("migrated_postgres")
    # Past triggers and foreign keys, and a hundred times as fast as to truncate so many tables.
    statements = [str(table.delete()) for table in db.metadata.sorted_tables]
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("; ".join(statements)))
    engine.dispose()
    return url


@pytest.fixture
def broker_url(tmp_path: Path) -> str:
    """An address where no broker answers; override it with ``redis_url`` for a real one."""
    return f"redis+socket://{tmp_path}/no-broker.sock"


@pytest.fixture
def settings(tmp_path: Path, database_url: str, broker_url: str) -> Settings:
    """Settings as an installation has them, everything inside ``tmp_path``."""
    return make_settings(
        tmp_path / "home", SULCUS_DATABASE_URL=database_url, SULCUS_BROKER_URL=broker_url
    )


@pytest.fixture(scope="session", autouse=True)
def quick_passwords() -> None:
    """Hashes that cost little: most tests make an account, and few are about its password."""
    passwords._hasher = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


@pytest.fixture(scope="session")
def compiled_templates(tmp_path_factory: pytest.TempPathFactory) -> FileSystemBytecodeCache:
    """Templates that one application compiled and the next ones read."""
    return FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))


@pytest.fixture
def app(settings: Settings, compiled_templates: FileSystemBytecodeCache) -> Iterator[Flask]:
    """The portal. Forms need no CSRF token; tests/unit/webapp/test_security.py turns it on.

    Do not send requests inside ``app.app_context()``: they would share its ``g``.
    """
    app = create_app(settings)
    app.testing = True
    app.config["WTF_CSRF_ENABLED"] = False
    app.jinja_env.bytecode_cache = compiled_templates
    yield app
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A visitor who has not signed in."""
    return app.test_client()


@pytest.fixture
def make_user(app: Flask) -> Callable[..., Account]:
    """Make an account: ``make_user(Role.ADMIN, organisation="B", email="b@b.example")``."""

    def make(role: Role = Role.CLINICIAN, **values: str) -> Account:
        return make_account(app, role, **values)

    return make


@pytest.fixture
def sign_in(app: Flask) -> Callable[[Account], FlaskClient]:
    """A browser in which the account has signed in."""

    def browser(account: Account) -> FlaskClient:
        client = app.test_client()
        answer = client.post(
            "/sign-in", data={"email": account.email, "password": account.password}
        )
        assert answer.status_code == 302, answer.text
        return client

    return browser


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A private Redis for this run, as Celery's broker URL."""
    with running_broker() as broker:
        yield broker.url
