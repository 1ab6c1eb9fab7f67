"""Take the screenshots for the documents: worklist, study and upload page, 1440 px wide.

Starts the whole product on embedded defaults with the demo account and its sample slices, and
opens it in a headless Chromium. The screenshots replace those in ``docs/images``.

    .venv/bin/python -m benchmarks.screenshots [--out docs/images]
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
from playwright.sync_api import Page, expect, sync_playwright

from benchmarks.product import REPOSITORY, product

SAMPLES = REPOSITORY / "ml" / "samples"
WINDOW = {"width": 1440, "height": 900}
# A sample slice with a clear heatmap and visible uncertainty.
SHOWN = "DEMO-01"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "images")
    folder = parser.parse_args().out
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        sys.exit("needs Chromium (on Debian: apt install chromium)")
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="sulcus-pictures-") as home,
        product(Path(home)) as address,
        sync_playwright() as playwright,
    ):
        seed(Path(home))
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_context(viewport=WINDOW, locale="en-GB").new_page()
        sign_in(page, address, (Path(home) / "demo_password").read_text(encoding="ascii"))
        take(page, address, folder)
        browser.close()


def seed(home: Path) -> None:
    """Make the demo account and wait until its studies are classified.

    The product has its own broker; its sweeper enqueues the studies that are submitted here.
    """
    subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi", "demo", "seed", "--wait"],
        cwd=REPOSITORY,
        env=os.environ | {"SULCUS_HOME": str(home), "SULCUS_LOG_LEVEL": "ERROR"},
        stdout=subprocess.DEVNULL,
        check=True,
    )


def sign_in(page: Page, address: str, password: str) -> None:
    page.goto(f"{address}/sign-in")
    page.get_by_label("E-mail").fill("demo@example.org")
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Worklist")).to_be_visible()


def take(page: Page, address: str, folder: Path) -> None:
    """Open the three pages and save a screenshot of each."""
    keep(page, folder / "worklist.png")
    page.get_by_role("link", name=SHOWN).first.click()
    expect(page.locator(".answer-class")).to_be_visible()
    keep(page, folder / "study.png")
    page.goto(f"{address}/studies/new")
    page.locator("#files").set_input_files([SAMPLES / f"glioma-{number}.jpg" for number in (1, 2)])
    page.get_by_label("Patient code").fill("P-1001")
    page.get_by_label("Description").fill("T1 with contrast agent, question of a tumour")
    keep(page, folder / "upload.png")


def keep(page: Page, path: Path) -> None:
    """Save a screenshot of the window with the strongest PNG compression."""
    page.wait_for_load_state("networkidle")
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.screenshot(path=path)
    pixels = cv2.imread(str(path))
    cv2.imwrite(str(path), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(f"{path} ({path.stat().st_size // 1024} kB)")


if __name__ == "__main__":
    main()
