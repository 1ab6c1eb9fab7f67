"""Real studies through the whole portal: web server, broker and worker, as they run for users."""

import io
import json
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import requests
from flask import Flask

from tests.dicoms import IDENTIFIERS, axial_series
from tests.portal import Portal
from tests.unit.ml.imaging.test_dicom_set import OUTCOMES, SET, files, usual
from tests.waiting import wait_until
from webapp.wording import FILE_PROBLEMS

pytestmark = pytest.mark.integration
Files = list[tuple[str, bytes]]


class Api:
    """The portal's API, asked as another program would."""

    def __init__(self, portal: Portal) -> None:
        self._portal = portal
        self._base = portal.start_web() + "/api/v1"
        self._session = requests.Session()
        self.account = portal.make_user()
        self._session.headers["Authorization"] = f"Bearer {portal.token(self.account.email)}"

    def submit(self, files: Files, **fields: str) -> requests.Response:
        parts = [("files", (name, content)) for name, content in files]
        return self._session.post(f"{self._base}/studies", files=parts, data=fields, timeout=120)

    def study(self, identifier: str) -> dict[str, Any]:
        answer = self._session.get(f"{self._base}/studies/{identifier}", timeout=30)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def finished(self, identifier: str, *, seconds: float = 120) -> dict[str, Any]:
        return wait_until(
            lambda: (
                (found := self.study(identifier))["status"] in {"done", "failed", "rejected"}
                and found
            ),
            seconds=seconds,
            what="the end of the study",
        )


@pytest.fixture
def api(portal: Portal) -> Api:
    portal.start_worker()
    return Api(portal)


def outcome(api: Api, name: str, content: bytes) -> str:
    """``done``, or the first sentence of the reason."""
    # A test pattern of squares looks like letters.
    answer = api.submit([(name, content)], burned_in="keep")
    assert answer.status_code in {202, 422}, (name, answer.status_code, answer.text)
    if answer.status_code == 422:
        detail = str(answer.json()["detail"])
        return detail.removeprefix(f"{name}: ").partition(" Files must be ")[0]
    found = api.finished(answer.json()["id"])
    return str(found["status"]) if found["status"] == "done" else str(found["reason"])


def expected_outcome(app: Flask, name: str) -> str:
    """As the readers judge it."""
    found = OUTCOMES[name] if name in OUTCOMES else usual(name)
    if isinstance(found, int):
        return "done"
    with app.test_request_context():
        return str(FILE_PROBLEMS[found])


def test_every_file_of_pydicom_s_test_set_ends_as_done_or_with_a_reason(
    portal: Portal, api: Api
) -> None:
    names = [name for name in files() if "DICOMDIR" not in name]
    assert len(names) > 70
    table = {name: outcome(api, Path(name).name, (SET / name).read_bytes()) for name in names}
    expected = {name: expected_outcome(portal.app, name) for name in names}
    assert {n: o for n, o in table.items() if o != expected[n]} == {}
    assert Counter(table.values())["done"] >= 10
    assert all(process.poll() is None for process in portal.processes)
    log = "".join(path.read_text() for path in portal.folder.glob("*.log"))
    assert "Traceback" not in log


@pytest.mark.data
def test_healthy_series_is_thirty_slices_from_below_to_above(api: Api, data_root: Path) -> None:
    files = [(p.name, p.read_bytes()) for p in sorted((data_root / "dicom-t1-healthy").iterdir())]
    answer = api.submit(files[::-1])
    assert answer.status_code == 202, answer.text
    found = api.finished(answer.json()["id"])
    assert found["status"] == "done"
    (series,) = found["series"]
    assert series["is_volume"]
    assert len(found["images"]) == 30
    assert found["patient_code"].startswith("P-")
    assert found["progress"] == {"done": 30, "total": 30}


@dataclass(frozen=True)
class Glioma:
    """A volume after its way through the portal; numbers of slices from below to above."""

    name: str
    slices: int
    drawn: int
    tumour: range
    key: list[int]


@pytest.fixture
def gliomas(api: Api, data_root: Path) -> list[Glioma]:
    found = []
    for path in sorted((data_root / "nifti-glioma").rglob("*_Mask.nii*")):
        volume = path.with_name(path.name.replace("_Mask", "_Scan_T1"))
        answer = api.submit([(volume.name, volume.read_bytes())])
        assert answer.status_code == 202, answer.text
        study = api.finished(answer.json()["id"])
        assert study["status"] == "done"
        mask = np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj) > 0
        inside = np.flatnonzero(mask.any(axis=(0, 1)))
        positions = {one["id"]: one["position"] for one in study["images"]}
        found.append(
            Glioma(
                name=f"{path.parent.name}/{volume.name}",
                slices=len(study["images"]),
                drawn=mask.shape[2],
                tumour=range(int(inside.min()), int(inside.max()) + 1),
                key=[positions[key] for key in study["result"]["key_images"]],
            )
        )
    return found


@pytest.mark.data
def test_glioma_volumes_have_all_their_slices(gliomas: list[Glioma]) -> None:
    assert len(gliomas) == 4
    for volume in gliomas:
        assert volume.slices == volume.drawn, volume
        assert 1 <= len(volume.key) <= 3


@pytest.mark.data
def test_key_slices_of_the_glioma_volumes_lie_where_the_tumour_is(gliomas: list[Glioma]) -> None:
    for volume in gliomas:
        assert all(key in volume.tumour for key in volume.key), volume


def test_archive_of_a_series_is_one_study(api: Api) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, content in enumerate(axial_series(5)):
            archive.writestr(f"DICOM/IM{number:04d}", content)
        archive.writestr("AUTORUN.INF", b"[autorun]")
    answer = api.submit([("disc.zip", buffer.getvalue())])
    assert answer.status_code == 202, answer.text
    found = api.finished(answer.json()["id"])
    assert (found["status"], len(found["images"])) == ("done", 5)
    assert sum(found["left_out"].values()) == 1


def test_file_that_lies_about_its_size_is_refused_and_the_next_one_is_read(
    portal: Portal, api: Api
) -> None:
    (honest,) = axial_series(1)
    rows = honest.index(b"\x28\x00\x10\x00US\x02\x00") + 8
    liar = honest[:rows] + b"\xff\xff" + honest[rows + 2 :]
    answer = api.submit([("liar.dcm", liar)])
    if answer.status_code == 202:
        assert api.finished(answer.json()["id"])["status"] == "rejected"
    else:
        assert answer.status_code == 422, answer.text
    following = api.submit([("honest.dcm", honest)])
    assert api.finished(following.json()["id"])["status"] == "done"
    assert all(process.poll() is None for process in portal.processes)


def test_no_identifier_is_left_anywhere(portal: Portal, api: Api) -> None:
    name = "Roentgen_Wilhelmina_HOSP-4711-X.dcm"
    answer = api.submit([(name, content) for content in axial_series(3)])
    identifier = answer.json()["id"]
    assert api.finished(identifier)["status"] == "done"
    kept = [path for path in portal.folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".log" for path in kept)
    for path in kept:
        content = path.read_bytes()
        for identifier in IDENTIFIERS:
            assert identifier.encode() not in content, (path, identifier)
    assert not any(word in json.dumps(portal.everything()) for word in IDENTIFIERS)
