"""A real portal and a real headless browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.broker import running_broker
from tests.browser.visits import SIZES, Visit, sign_in
from tests.conftest import make_settings
from tests.factories import Account
from tests.portal import Portal
from webapp import create_app
from webapp.database import db

SCREENSHOTS = Path(__file__).parents[2] / "test-results" / "screenshots"
# Without a sandbox for containers that run as root, and without calls to other hosts. WebGL is
# drawn by the processor; so are pages, but straight away and not by way of WebGL, which takes
# longer than most tests.
_FLAGS = [
    "--no-sandbox", "--disable-quic", "--no-first-run", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--disable-gpu-rasterization", "--disable-gpu-compositing",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, headless."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs Chromium (on Debian: apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where pictures of the pages are kept to be looked at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS


@pytest.fixture(scope="session")
def served_portal(
    tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path
) -> Iterator[Portal]:
    """One web server for all tests, because starting it takes longer than most of them.

    On SQLite alone: the other database is tested below the pages.
    """
    with running_broker() as broker:
        folder = tmp_path_factory.mktemp("portal")
        shutil.copyfile(migrated_sqlite, folder / "test.sqlite3")
        settings = make_settings(
            folder / "home",
            SULCUS_DATABASE_URL=f"sqlite:///{folder / 'test.sqlite3'}",
            SULCUS_BROKER_URL=broker.url,
        )
        app = create_app(settings)
        app.testing = True
        portal = Portal.of(app, settings, broker, folder)
        portal.start_web()
        yield portal
        portal.stop_all()
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def portal(served_portal: Portal) -> Portal:
    """The portal without a row, its web server running; tests start workers."""
    served_portal.empty()
    return served_portal


@pytest.fixture(params=list(SIZES))
def visit(
    portal: Portal, chromium: Browser, screenshots: Path, request: pytest.FixtureRequest
) -> Iterator[Visit]:
    """A window in which nothing may go wrong."""
    context = chromium.new_context(
        viewport=SIZES[request.param], locale="en-GB", has_touch=request.param == "phone"
    )
    visit = Visit(context.new_page(), portal.address, request.param, screenshots)
    visit.page.on("console", visit.note_console)
    visit.page.on("pageerror", lambda error: visit.troubles.append(str(error)))
    visit.page.on("request", visit.note_request)
    yield visit
    context.close()
    assert not visit.troubles


@pytest.fixture
def reader(portal: Portal, visit: Visit) -> Account:
    """Somebody who has signed in on the page."""
    account = portal.make_user()
    sign_in(visit.page, visit.address, account)
    return account
