"""The page about the model: for everybody, in plain words, also where the card says little."""

import re
from collections.abc import Callable
from pathlib import Path

from flask import Flask
from flask.testing import FlaskClient

from ml.model_files import BUNDLED, find_model_files
from tests.factories import Account
from tests.unit.webapp.models_admin.candidates import promote, write_model
from webapp.accounts.models import Role
from webapp.model_page.figures import read_figures, reliability

MakeUser = Callable[..., Account]
SignIn = Callable[[Account], FlaskClient]


def text_of(client: FlaskClient) -> str:
    answer = client.get("/model")
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text))


def test_figures_of_the_shipped_card_stand_on_the_page(
    app: Flask, make_user: MakeUser, sign_in: SignIn
) -> None:
    client = sign_in(make_user(Role.CLINICIAN))
    page = text_of(client)
    assert "Measured on 878 slices that it had not learnt from, of 82 patients" in page
    assert "Of another source than all it learnt from" in page
    assert "too few have been compared" in page
    assert "What is not known" in page
    assert "The watch in full" not in page
    assert "not for diagnosis" in page
    html = client.get("/model").text
    assert html.count("<svg") >= 1
    assert 'class="is-right"><span class="number">234</span>' in html


def test_the_diagram_is_of_the_shipped_weights() -> None:
    files = find_model_files(BUNDLED)
    assert sum(one.n for one in reliability(BUNDLED, sha256=files.sha256)) == 878
    assert reliability(BUNDLED, sha256="0" * 64) == ()
    assert reliability(Path("nowhere.json"), sha256=files.sha256) == ()


def test_a_promoted_model_without_figures_says_so_and_stands_on_the_time_line(
    app: Flask, make_user: MakeUser, sign_in: SignIn, tmp_path: Path
) -> None:
    one, other = make_user(Role.STEWARD, name="Sasha"), make_user(Role.STEWARD, name="Olu")
    promote(app, one, other, write_model(tmp_path / "new", "vgg16-next"), reason="better here")
    seen = text_of(sign_in(make_user(Role.CLINICIAN)))
    assert "The card of this model has no figures" in seen
    assert "1 of 1 gate passed" in seen
    assert "Sasha" not in seen
    full = text_of(sign_in(other))
    assert "Proposed by Sasha; decided by Olu: better here" in full
    assert "The watch in full" in full


def test_a_card_with_anything_in_it_breaks_nothing() -> None:
    card = {
        "metrics": {
            "accuracy": "high",
            "per_class": {"glioma": 3, "pituitary": {"recall": 0.5}},
            "confusion": {"labels": ["a"], "matrix": [[1, 2]]},
            "intervals_95": {"accuracy": [1], "recall_pituitary": ["x", 1]},
            "by_source": {"x": None},
        },
        "volumes": {"false_alarms": {"n": 1, "of": 0}},
        "cross_validations": [],
        "limits": "none",
    }
    found = read_figures(card, "odd", "0" * 64)
    assert (found.accuracy, found.confusion, found.volumes, found.sites) == (None, None, None, ())
    assert [one.share for one in found.recalls] == [0.5]
