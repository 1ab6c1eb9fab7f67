"""What DICOM files say of people is nowhere: a mark in every attribute, and all that is kept read.

Beside :mod:`tests.integration.test_logs`, which plants marks in requests.
"""

import io
import logging
import re
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydicom.datadict import dictionary_VR, tag_for_keyword
from sqlalchemy import select
from werkzeug.test import TestResponse

from config import Settings
from ml.labels import LABELS
from tests.conftest import make_settings
from tests.factories import Account, make_api_token
from tests.planting import DAYS, FILES, Planted, found_in, planted, word
from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.database import db
from webapp.deidentification import pseudonymiser_for
from webapp.deidentification.profile import ACTIONS, HARMLESS_TEXT, TEXT_VRS
from webapp.extensions import current_blobs, current_room
from webapp.inference import analyses, claims
from webapp.intake.assembly import assemble_quiet_studies
from webapp.logs import DiscreetFormatter
from webapp.models_admin.operations import register_model
from webapp.reporting.content import gather
from webapp.reporting.dicom import dicom_result
from webapp.reporting.identity import as_file
from webapp.studies.models import Analysis, Study
from webapp.tenancy import acting_for, unscoped
from worker.decoding import Decoder

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]
MakeUser = Callable[..., Account]
SignIn = Callable[[Account], FlaskClient]
Content = Iterator[tuple[str, bytes]]
_FIRST, _PATHS, _PATIENTS = 10_000, 80_000, 90_000  # numbers of marks
_CODES_AND_NUMBERS = {"CS", "DS", "IS", "TM"}
_WRITTEN_ANEW = {"PatientIdentityRemoved", "LongitudinalTemporalInformationModified"}


def may_stay(where: str) -> bool:
    """Whether docs/running/deidentification.md says that an attribute is kept as it is."""
    tag = tag_for_keyword(where)
    if tag is None or tag in ACTIONS or tag >> 16 == 0x0010:
        return False
    vr = dictionary_VR(tag)
    return tag in HARMLESS_TEXT if vr in TEXT_VRS else vr in _CODES_AND_NUMBERS


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    """A study that comes by DICOMweb is put together at once."""
    return make_settings(
        tmp_path / "home", SULCUS_DATABASE_URL=database_url, SULCUS_QUIET_SECONDS="0"
    )


@pytest.fixture
def uploader(make_user: MakeUser) -> Account:
    return make_user(Role.ADMIN, organisation="Uploads")


@pytest.fixture
def sender(make_user: MakeUser) -> Account:
    return make_user(Role.ADMIN, organisation="Sends")


@pytest.fixture
def sown(app: Flask, uploader: Account, sender: Account) -> tuple[Planted, list[bytes]]:
    """Files of a patient whose dates both organisations move past all other marks."""
    with app.app_context():
        both = [pseudonymiser_for(one.organisation_id) for one in (uploader, sender)]
    issuer = word(_FIRST + 1)
    numbers = range(_PATIENTS, _PATIENTS + 1000)
    far = (n for n in numbers if max(one.days(word(n), issuer) for one in both) < -DAYS)
    return planted(_FIRST, patient_id=next(far))


def upload(client: FlaskClient, headers: Mapping[str, str], files: list[bytes]) -> None:
    """Send files as the API takes them, under paths that are marked as well."""
    folder = word(_PATHS)
    sent = [
        (io.BytesIO(content), f"{folder}/{word(_PATHS + 1 + number)}.dcm")
        for number, content in enumerate(files)
    ]
    answer = client.post("/api/v1/studies", data={"files": sent}, headers=headers)
    assert answer.status_code == 202, answer.text
    assert answer.get_json()["left_out"] == []


def store(client: FlaskClient, headers: Mapping[str, str], files: list[bytes]) -> None:
    """Send files by STOW-RS."""
    head = b"--b\r\nContent-Type: application/dicom\r\n\r\n"
    body = b"".join(head + content + b"\r\n" for content in files) + b"--b--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=b'
    answer = client.post("/dicomweb/studies", data=body, headers=headers, content_type=kind)
    assert answer.status_code == 200, answer.text


def analyse(app: Flask) -> None:
    """Decode and answer all studies, the way the worker does but for the model."""
    with app.app_context():
        assemble_quiet_studies()
        with unscoped():
            ids = db.session.scalars(select(Analysis.id)).all()
            db.session.rollback()
        for analysis_id in ids:
            claim = analyses.claim_analysis(analysis_id)
            assert claim is not None
            with Decoder(current_blobs(), current_room()) as decoder:
                opened = decoder.decode(claim.images)
            decoded = [one.decoded for one in opened if one.decoded]
            assert len(decoded) == FILES
            answers = [
                claims.NewPrediction(
                    image_id=one.image_id,
                    label="glioma",
                    probabilities={label: 0.97 if label == "glioma" else 0.01 for label in LABELS},
                    prediction_set=["glioma"],
                    in_distribution=True,
                    ood_score=0.1,
                    quality=[],
                    heatmap_key=one.blob_key,
                )
                for one in decoded
            ]
            analyses.finish_analysis(
                claim,
                answers=answers,
                problems={},
                model=register_model(name="test", sha256="0" * 64, card={}),
                model_ms=1.0,
                decoded=decoded,
            )


def kept(app: Flask, home: Path) -> Content:
    """Rows of all tables and all files, the database with what it has deleted among them."""
    with app.app_context(), unscoped():
        for table in db.metadata.sorted_tables:
            rows = db.session.execute(select(table)).all()
            yield f"table {table.name}", "\n".join(map(str, rows)).encode()
    for path in home.parent.rglob("*"):
        if path.is_file():
            yield f"file {path.relative_to(home.parent)}", path.read_bytes()


def handed_on(
    app: Flask, account: Account, headers: Mapping[str, str], browser: FlaskClient
) -> Content:
    """What the API, DICOMweb, pages and exports tell, and what archives are sent."""
    with app.app_context(), acting_for(account.organisation_id):
        (study,) = db.session.scalars(select(Study)).all()
        uid, images = study.uid, [image.id for image in study.images]
        content = gather(study, reader=find_user_by_address(account.email))
        for one in dicom_result(content, current_blobs()).objects:
            yield f"DICOM result {one.SOPClassUID}", as_file(one)
    api, dicomweb = f"/api/v1/studies/{study.id}", f"/dicomweb/studies/{uid}"
    verdict = {"verdict": "unsure"}
    answer = app.test_client().post(f"{api}/feedback", json=verdict, headers=headers)
    assert answer.status_code == 201, answer.text
    search = [f"/dicomweb/{kind}?includefield=all" for kind in ("studies", "series", "instances")]
    reports = [f"{api}/report?format={kind}" for kind in ("pdf", "sr", "fhir")]
    lists = ["/api/v1/studies", "/api/v1/feedback", "/api/v1/feedback?format=zip"]
    single = [api, f"/api/v1/images/{images[0]}/pixels", dicomweb, f"{dicomweb}/metadata"]
    for address in (*search, *reports, *lists, *single):
        yield from _opened(address, app.test_client().get(address, headers=headers))
    parts = ("", "/images", "/stack", "/correct", "/move")
    pages = ["/", "/history", "/history.csv", "/admin/jobs", "/account"]
    for address in (*pages, *(f"/studies/{study.id}{part}" for part in parts)):
        yield from _opened(address, browser.get(address))


def _opened(address: str, answer: TestResponse) -> Content:
    """The answer, and what is packed in it."""
    assert answer.status_code == 200, f"{address}: {answer.text}"
    yield address, answer.data
    if answer.mimetype == "application/zip":
        with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
            for name in archive.namelist():
                yield f"{address} {name}", name.encode() + archive.read(name)
    elif answer.mimetype == "application/pdf":
        command = ["pdftotext", "-", "-"]
        text = subprocess.run(command, input=answer.data, capture_output=True, check=True)
        yield f"{address} as text", text.stdout


def test_marks_are_found_only_where_attributes_are_kept(
    app: Flask,
    settings: Settings,
    uploader: Account,
    sender: Account,
    sign_in: SignIn,
    sown: tuple[Planted, list[bytes]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    marks, files = sown
    marks.marks |= {_PATHS + number: "name of a file" for number in range(FILES + 1)}
    everywhere = set().union(*(found_in(content, marks) for content in files))
    assert len(everywhere) > 4_900
    everything_kept = set(filter(may_stay, everywhere))
    accounts = {"uploaded": uploader, "sent": sender}
    headers = {
        name: {"Authorization": f"Bearer {make_api_token(app, account)[1]}"}
        for name, account in accounts.items()
    }
    upload(app.test_client(), headers["uploaded"], files)
    store(app.test_client(), headers["sent"], files)
    analyse(app)

    found: dict[str, set[str]] = {}
    for name, account in accounts.items():
        for place, content in handed_on(app, account, headers[name], sign_in(account)):
            found[f"{name} {place}"] = found_in(content, marks)
    for place, content in kept(app, settings.home):
        found[place] = found_in(content, marks)
    written = DiscreetFormatter("%(name)s %(message)s")
    lines = "\n".join(map(written.format, caplog.records))
    found["log"] = found_in(lines.encode(), marks)

    leaks = {place: found[place] - everything_kept for place in found}
    assert not {place: what for place, what in leaks.items() if what}
    assert not {dictionary_VR(one) for one in everything_kept} & {"PN", "DA", "DT", "UI"}
    # Not by hiding everything; what says that the file is de-identified is written anew.
    assert everything_kept - set().union(*found.values()) == _WRITTEN_ANEW
    beside = {place for place in found if not re.search(r"/dicomweb/|/blobs/", place)}
    assert set().union(*(found[place] for place in beside)) == {"InstanceNumber"}
