"""Pictures of the pages that people see on the way from assessments to a better model."""

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from playwright.sync_api import Browser, BrowserContext, sync_playwright

from benchmarks.product import PASSWORD

WIDTHS = {"desktop": 1440, "phone": 360}


class Screenshots:
    """Opens pages as one user or another, at each width, and keeps what it sees.

    What a page says on its console, and a page that is wider than its window, are printed.
    """

    def __init__(self, folder: Path | None, address: str, browser: Browser | None = None) -> None:
        self._folder, self._address, self._browser = folder, address, browser
        self._contexts: dict[tuple[str, str], BrowserContext] = {}
        self._number = 0

    @classmethod
    @contextlib.contextmanager
    def into(cls, folder: Path | None, address: str) -> Iterator[Self]:
        """Keep them in a folder; without one nothing is opened."""
        if folder is None:
            yield cls(folder, address)
            return
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        if program is None:
            sys.exit("screenshots need Chromium (on Debian: apt install chromium)")
        folder.mkdir(parents=True, exist_ok=True)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            yield cls(folder, address, browser)
            browser.close()

    def take(self, who: str, name: str, *paths: str) -> None:
        """Open pages as ``WHO@example.org``; without a folder nothing is opened."""
        if self._folder is None or self._browser is None:
            return
        self._number += 1
        for width in WIDTHS:
            for place, path in enumerate(paths):
                file = self._folder / f"{self._number:02d}-{name}-{place + 1}-{width}.png"
                self._open(self._context(self._browser, who, width), path, file)

    def _context(self, browser: Browser, who: str, width: str) -> BrowserContext:
        found = self._contexts.get((who, width))
        if found is None:
            viewport = {"width": WIDTHS[width], "height": 900}
            found = browser.new_context(viewport=viewport, locale="en-GB")  # type: ignore[arg-type]
            page = found.new_page()
            page.goto(f"{self._address}/sign-in")
            page.fill("#email", f"{who}@example.org")
            page.fill("#password", PASSWORD)
            page.press("#password", "Enter")
            page.wait_for_url(lambda url: not url.endswith("/sign-in"))
            page.close()
            self._contexts[who, width] = found
        return found

    def _open(self, context: BrowserContext, path: str, file: Path) -> None:
        page = context.new_page()
        page.on("console", lambda said: said.type == "error" and print(f"{path}: {said.text}"))
        page.goto(f"{self._address}{path}")
        page.wait_for_load_state("load")
        page.wait_for_timeout(1500)  # pictures and charts; live pages are never idle
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if wide > 0:
            print(f"{path}: wider than the window by {wide} px ({file.name})")
        page.screenshot(path=file, full_page=True)
        page.close()
