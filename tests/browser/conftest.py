"""A real portal and a real headless browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.visits import SIZES, Visit, sign_in
from tests.factories import Account
from tests.portal import Portal
from tests.portal_fixtures import broker, broker_url, portal

__all__ = ["broker", "broker_url", "portal"]

SCREENSHOTS = Path(__file__).parents[2] / "test-results" / "screenshots"
# Without a sandbox for containers that run as root, and without calls to other hosts. WebGL is
# drawn by the processor.
_FLAGS = [
    "--no-sandbox", "--disable-quic", "--no-first-run", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
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


@pytest.fixture(params=["sqlite"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """SQLite alone: the other database is tested below the pages."""
    shutil.copyfile(request.getfixturevalue("migrated_sqlite"), tmp_path / "test.sqlite3")
    return f"sqlite:///{tmp_path / 'test.sqlite3'}"


@pytest.fixture(params=list(SIZES))
def visit(
    portal: Portal, chromium: Browser, screenshots: Path, request: pytest.FixtureRequest
) -> Iterator[Visit]:
    """A window in which nothing may go wrong."""
    address = portal.start_web()
    context = chromium.new_context(
        viewport=SIZES[request.param], locale="en-GB", has_touch=request.param == "phone"
    )
    visit = Visit(context.new_page(), address, request.param, screenshots)
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
