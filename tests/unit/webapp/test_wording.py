"""A prediction set is said in words that fit how far ahead the likeliest class is."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask_babel import Babel, force_locale

import ml.imaging
import webapp
from ml.imaging import foreign
from webapp.wording import FILE_PROBLEMS, doubt_sentence

CHANCES = {"no_tumor": 0.96, "meningioma": 0.02, "glioma": 0.01, "pituitary": 0.01}
CLOSE = {"no_tumor": 0.55, "meningioma": 0.4, "glioma": 0.04, "pituitary": 0.01}
UNDECIDED = {"no_tumor": 0.45, "meningioma": 0.3, "glioma": 0.15, "pituitary": 0.1}


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    app = Flask("webapp", root_path=str(Path(webapp.__file__).parent))
    Babel(app)
    with app.app_context(), force_locale("en_GB"):
        yield


@pytest.mark.parametrize(
    ("called", "labels", "chances", "expected"),
    [
        ("no_tumor", (), CHANCES, "None of the classes fits well, so the result is unreliable."),
        (
            "no_tumor",
            ("no_tumor",),
            CHANCES,
            "The model is fairly certain that none of the three tumours it recognises is visible.",
        ),
        ("glioma", ("glioma",), CHANCES, "The model is fairly certain: Glioma."),
        (
            "no_tumor",
            ("no_tumor", "meningioma", "glioma"),
            CHANCES,
            "Most likely: No tumour. Not ruled out: Meningioma and glioma.",
        ),
        (
            "no_tumor",
            ("no_tumor", "meningioma"),
            CLOSE,
            "The model cannot distinguish between: No tumour and meningioma.",
        ),
        (
            "meningioma",
            ("no_tumor", "meningioma"),
            CLOSE,
            "A tumour is not ruled out; the most likely would be: Meningioma.",
        ),
        (
            "meningioma",
            ("no_tumor", "meningioma", "glioma"),
            UNDECIDED,
            "A tumour is not ruled out; the most likely would be: Meningioma.",
        ),
    ],
)
def test_sentence_fits_the_set(
    called: str, labels: tuple[str, ...], chances: dict[str, float], expected: str
) -> None:
    assert doubt_sentence(called, labels, chances) == expected


def test_images_that_contradict_one_another_are_said_whatever_the_set() -> None:
    sentence = doubt_sentence("meningioma", ("meningioma",), CLOSE, against=["glioma", "pituitary"])
    expected = (
        "Different images suggest different tumours: Meningioma, glioma and pituitary tumour."
    )
    assert sentence == expected


def test_every_code_of_a_refusal_has_a_sentence() -> None:
    """Codes as they stand in the reading code; none reaches a user as a bare word."""
    sources = [*Path(ml.imaging.__path__[0]).glob("*.py"), *Path(webapp.__path__[0]).rglob("*.py")]
    raised = {
        code
        for source in sources
        for code in re.findall(r'UnreadableImage\(\s*"(\w+)"', source.read_text("utf-8"))
    }
    named = {code for code, _start in foreign._STARTS} | {"bmp", "pdf", "avif"}
    assert {*raised, *named} - {"missing"} <= set(FILE_PROBLEMS)
