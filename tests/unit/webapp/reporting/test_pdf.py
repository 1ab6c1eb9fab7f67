"""The PDF as poppler reads and draws it."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flask import Flask
from flask_babel import Babel, force_locale
from PIL import Image

from tests.unit.webapp.reporting.results import Results, reading, study_result
from webapp.reporting.content import NOTICE, ReportContent
from webapp.reporting.pdf import pdf

WEBAPP = Path(__file__).parents[4] / "webapp"


@pytest.fixture
def babel() -> Flask:
    """Only translations: a report needs neither database nor request."""
    app = Flask("webapp", root_path=str(WEBAPP))
    Babel(app)
    return app


def poppler(program: str, *arguments: str) -> bytes:
    if shutil.which(program) is None:
        pytest.skip(f"needs poppler's {program}")
    return subprocess.run([program, *arguments], capture_output=True, check=True).stdout


class Printer:
    """Makes PDFs and reads them as a person's software would."""

    def __init__(self, app: Flask, results: Results, folder: Path) -> None:
        self._app = app
        self._results = results
        self.path = folder / "report.pdf"

    def text(self, content: ReportContent, language: str = "en_GB") -> list[str]:
        """The text of each page, blanks and line breaks made one."""
        with self._app.test_request_context(), force_locale(language):
            self.path.write_bytes(pdf(content, self._results.blobs))
        pages = poppler("pdftotext", "-layout", str(self.path), "-").decode().split("\f")[:-1]
        return [re.sub(r"\s+", " ", page) for page in pages]

    def drawn(self, folder: Path) -> list[Image.Image]:
        """The pages of the last PDF as pictures."""
        poppler("pdftoppm", "-r", "50", "-png", str(self.path), str(folder / "page"))
        return [Image.open(path) for path in sorted(folder.glob("page*.png"))]


@pytest.fixture
def printer(babel: Flask, results: Results, tmp_path: Path) -> Printer:
    return Printer(babel, results, tmp_path)


def test_page_says_result_doubt_and_model(printer: Printer, results: Results) -> None:
    (page,) = printer.text(results.content())
    assert "P-ABC123" in page
    assert "Glioma 62%" in page
    assert "The model cannot distinguish between: Glioma and no tumour." in page
    assert "98% of the images resemble the brain MRI the model was trained on." in page
    assert "vgg16-gap" in page
    assert "ab12" * 16 in page
    assert "Not yet reviewed." in page


def test_images_of_another_tumour_are_said_and_shown(printer: Printer, results: Results) -> None:
    other = replace(results.picture_slice(3), answer=results.answer("pituitary", 0.97))
    keys = (results.picture_slice(1), results.picture_slice(2), other)
    said = study_result(keys[0].answer, {other.id: "pituitary"})
    text = " ".join(printer.text(results.content(*keys, contradicting=(other,), result=said)))
    assert "Different images suggest different tumours: Glioma and pituitary tumour." in text
    assert "Image 3: Pituitary tumour, 97%" in text
    assert "Glioma 62% The images" not in text
    assert "Probabilities for image 1" in text


def test_every_page_carries_the_notice_and_its_number(printer: Printer, results: Results) -> None:
    content = results.content(readings=tuple(reading("A long remark. " * 120) for _ in range(6)))
    pages = printer.text(content)
    assert len(pages) >= 3
    for number, page in enumerate(pages, start=1):
        assert NOTICE in page
        assert f"Page {number} of {len(pages)}" in page


@pytest.mark.parametrize(
    "hostile",
    [
        "<b>bold</b> & </para><font size=80>big</font>",
        '<img src="file:///etc/passwd"/>',
        "&lt; &amp; &#0; ]]> <!-- -->",
        "{{ 7*7 }} %s %(x)s",
    ],
)
def test_hostile_text_is_printed_as_it_is(printer: Printer, results: Results, hostile: str) -> None:
    content = results.content(
        description=hostile, uploaded_by=hostile, readings=(reading(hostile, reader=hostile),)
    )
    text = " ".join(printer.text(content))
    assert text.count(hostile) == 4


def test_control_characters_do_no_harm(printer: Printer, results: Results) -> None:
    text = printer.text(
        results.content(readings=(reading("one\x07two\u202ethree\ud800four\x00"),))
    )[0]
    assert "one two three four" in text


def test_long_words_and_many_lines_break(printer: Printer, results: Results) -> None:
    comment = "x" * 1000 + "\n" + "\n".join(f"line {number}" for number in range(120))
    text = " ".join(printer.text(results.content(readings=(reading(comment),))))
    assert text.count("x") >= 1000
    assert "line 119" in text


def test_greek_and_cyrillic_print(printer: Printer, results: Results) -> None:
    content = results.content(patient_code="Ж-Ελένη", readings=(reading("Менингиома; ίσως"),))
    text = " ".join(printer.text(content))
    assert "Ж-Ελένη" in text
    assert "Менингиома; ίσως" in text
    fonts = poppler("pdffonts", str(printer.path)).decode()
    assert all(line.split()[-5] == "yes" for line in fonts.splitlines()[2:]), "all embedded"


def test_report_speaks_the_readers_language(printer: Printer, results: Results) -> None:
    text = printer.text(results.content(), "de")[0]
    assert "Gliom" in text
    assert "Kein zertifiziertes Medizinprodukt" in text or "nicht zur Diagnose" in text.lower()


def test_dates_are_british_beside_british_spelling(printer: Printer, results: Results) -> None:
    text = printer.text(results.content())[0]
    assert "3 Feb 2024 (shifted" in text
    assert "4 Mar 2026, 05:06 UTC" in text


def test_unfamiliar_image_is_warned_about(printer: Printer, results: Results) -> None:
    answer = replace(results.answer(), in_distribution=False)
    text = printer.text(results.content(result=study_result(answer)))[0]
    assert "the result is unreliable" in text


def test_anisotropic_slice_keeps_its_proportions(
    printer: Printer, results: Results, tmp_path: Path
) -> None:
    printer.text(results.content(results.dicom_slice()))
    (page,) = printer.drawn(tmp_path)
    pixels = np.asarray(page.convert("RGB")).astype(int)
    hot = (pixels[..., 0] > 150) & (pixels[..., 1] < 80) & (pixels[..., 2] < 80)
    rows, columns = np.nonzero(hot)
    # The heat covers a quarter of both sides; rows lie twice as far apart as columns.
    assert np.ptp(rows) / np.ptp(columns) == pytest.approx(2, rel=0.2)


def test_strip_of_many_slices_and_gaps_is_drawn(printer: Printer, results: Results) -> None:
    slices = results.content().slices
    gapped = tuple(replace(one, tumor_probability=None) for one in slices[:3]) + slices[3:]
    many = tuple(replace(slices[n % 20], number=n + 1) for n in range(2000))
    assert "2000" in printer.text(results.content(slices=many))[0]
    assert printer.text(results.content(slices=gapped))


def test_assessments_name_their_subject_and_what_is_withheld(
    printer: Printer, results: Results
) -> None:
    said = reading("", number=None, label="other", finding="stroke")
    text = " ".join(printer.text(results.content(readings=(said,), hidden_readings=2)))
    assert "Disagree: stroke, the study as a whole" in text
    assert "2 assessments by other readers are left out" in text
    alone = " ".join(printer.text(results.content(hidden_readings=1)))
    assert "1 assessment by another reader is left out" in alone
    assert "No reader has assessed" not in alone
