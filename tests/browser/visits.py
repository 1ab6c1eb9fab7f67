"""A browser window on a portal, and what readers do in it."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import ConsoleMessage, Page, Request, expect

from tests.factories import Account

PASSWORD = "a quiet reading room"
SIZES = {"desk": {"width": 1440, "height": 900}, "phone": {"width": 360, "height": 780}}


@dataclass
class Visit:
    """One browser window on a portal of its own, and what went wrong in it."""

    page: Page
    address: str
    size: str
    screenshots: Path
    troubles: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        self.page.goto(self.address + path)

    def picture(self, name: str) -> None:
        """Keep a picture, and check that nothing is wider than the window."""
        self.page.screenshot(path=self.screenshots / f"{name}-{self.size}.png", full_page=True)
        width = self.page.evaluate("document.documentElement.scrollWidth")
        assert width <= SIZES[self.size]["width"], f"{name} is {width} px wide"

    def note_console(self, message: ConsoleMessage) -> None:
        # Refusals are what some tests are about; that drawing by the processor is slow, none.
        expected = "status of 4" in message.text or "(OpenGL, Performance" in message.text
        if message.type in {"error", "warning"} and not expected:
            self.troubles.append(message.text)

    def note_request(self, request: Request) -> None:
        if not request.url.startswith((self.address, "blob:", "data:")):
            self.troubles.append(f"a request to another host: {request.url}")

    def first_run(self) -> None:
        self.open("/")
        self.page.get_by_role("link", name=re.compile("first account|set up", re.I)).click()
        self.page.get_by_label("Organisation").fill("St Elsewhere")
        self.page.get_by_label("Name", exact=True).fill("Dr Ada Example")
        self.page.get_by_label("E-mail").fill("ada@example.org")
        self.page.get_by_label("Password", exact=True).fill(PASSWORD)
        self.page.get_by_label("Repeat the password").fill(PASSWORD)
        self.picture("first-run")
        self.page.get_by_role("button", name="Create the account").click()
        expect(self.page.get_by_role("heading", name="Worklist")).to_be_visible()

    def upload_fields(self, *paths: Path, code: str) -> None:
        self.open("/studies/new")
        self.page.locator("#files").set_input_files(paths)
        self.page.get_by_label("Patient code").fill(code)

    def upload(self, *paths: Path, code: str) -> None:
        self.upload_fields(*paths, code=code)
        self.picture("upload")
        self.page.get_by_role("button", name="Upload and analyse").click()
        self.page.wait_for_url(re.compile(r"/studies/[0-9a-f-]{36}"))


def sign_in(page: Page, address: str, account: Account) -> None:
    """Sign in and wait for the worklist."""
    page.goto(f"{address}/sign-in")
    page.get_by_label("E-mail").fill(account.email)
    page.get_by_label("Password", exact=True).fill(account.password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Worklist")).to_be_visible()
