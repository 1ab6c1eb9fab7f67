"""The way in with real peers: dcmtk, Orthanc and dicomweb-client send, search and fetch."""

import contextlib
import re
import shutil
import socket
import ssl
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from sqlalchemy import select

from tests.dicoms import IDENTIFIERS, as_bytes, axial_series, head, mr_slice
from tests.factories import Account
from tests.integration.orthanc import Orthanc, free_port
from tests.portal import Portal
from tests.waiting import wait_until
from tests.warm_start import WarmProcess
from webapp.accounts.models import Role
from webapp.database import db
from webapp.pacs.models import PacsNode
from webapp.studies.models import Instance, Status, Study
from webapp.tenancy import acting_for, unscoped

pytestmark = pytest.mark.integration
TITLE = "SCANNER"


def dcmtk(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run one of dcmtk's programs; its words are in ``stdout``."""
    # Not along PATH: pynetdicom brings programs of the same names.
    path = shutil.which(program, path="/usr/local/bin:/usr/bin")
    if path is None:
        pytest.skip(f"needs dcmtk's {program}")
    return subprocess.run(
        [path, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


class Receiving:
    """A portal with its receiver, and the administrator whose archives may send."""

    def __init__(self, portal: Portal) -> None:
        self.portal = portal
        self.account: Account = portal.make_user(Role.ADMIN)
        self.port = free_port()
        self.process: WarmProcess | None = None

    def start(self, **environment: str) -> None:
        """Start the receiver as `make run` does, and wait until it listens."""
        self.process = self.portal.run(
            "receiver",
            ["worker.dicom_receiver"],
            SULCUS_DICOM_PORT=str(self.port),
            SULCUS_DICOM_BIND="127.0.0.1",
            **environment,
        )
        wait_until(self._listens, seconds=60, what="the receiver")

    def node(self, **values: Any) -> uuid.UUID:
        """Register an archive."""
        given = {"name": "Scanner", "ae_title": TITLE, "address": "127.0.0.1"} | values
        with self.portal.app.app_context(), acting_for(self.account.organisation_id):
            node = PacsNode(registered_by_id=self.account.id, **given)
            db.session.add(node)
            db.session.commit()
            return node.id

    def peer(self, title: str = TITLE, called: str = "SULCUS") -> list[str]:
        """The arguments with which dcmtk calls."""
        return ["-aet", title, "-aec", called, "127.0.0.1", str(self.port)]

    def instances(self) -> Sequence[Instance]:
        """What has been received."""
        with self.portal.app.app_context(), unscoped():
            return db.session.scalars(select(Instance)).all()

    def studies(self) -> Sequence[Study]:
        """What has been put together."""
        with self.portal.app.app_context(), unscoped():
            return db.session.scalars(select(Study)).all()

    def only_study(self) -> uuid.UUID:
        """The one study, once there is one."""
        wait_until(lambda: self.studies(), seconds=60, what="a study")
        (study,) = self.studies()
        return study.id

    def nothing_is_left_of(self, *identifiers: str) -> None:
        """Neither in a file of the portal, logs included, nor in a row."""
        for path in self.portal.folder.rglob("*"):
            if path.is_file() and "orthanc" not in path.parts and "sent" not in path.parts:
                content = path.read_bytes()
                assert not [word for word in identifiers if word.encode() in content], path
        rows = "\n".join(self.portal.everything())
        assert not [word for word in identifiers if word in rows]

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "the receiver has ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


@pytest.fixture
def receiving(portal: Portal) -> Receiving:
    portal.environment["SULCUS_QUIET_SECONDS"] = "1"
    portal.environment["SULCUS_SWEEP_SECONDS"] = "1"
    return Receiving(portal)


@pytest.fixture
def sent(tmp_path: Path) -> list[str]:
    """A series of five slices as files."""
    folder = tmp_path / "sent"
    folder.mkdir()
    paths = [folder / f"{number}.dcm" for number in range(5)]
    for path, content in zip(paths, axial_series(5), strict=True):
        path.write_bytes(content)
    return [str(path) for path in paths]


def test_dcmtk_sends_a_series_and_it_becomes_a_study(receiving: Receiving, sent: list[str]) -> None:
    receiving.portal.start_worker()
    receiving.node()
    receiving.start()
    assert dcmtk("echoscu", *receiving.peer()).returncode == 0
    stored = dcmtk("storescu", *receiving.peer(), *sent)
    assert stored.returncode == 0, stored.stdout
    # The same once more is ignored, and a success for the sender.
    assert dcmtk("storescu", *receiving.peer(), *sent).returncode == 0
    assert len(receiving.instances()) == 5
    study_id = receiving.only_study()
    assert receiving.portal.wait_for_end(study_id) is Status.DONE
    assert len(receiving.portal.predictions(study_id)) == 5
    receiving.nothing_is_left_of(*IDENTIFIERS)


def test_strangers_and_what_is_no_mr_image_are_refused(
    receiving: Receiving, sent: list[str], tmp_path: Path
) -> None:
    receiving.node()
    receiving.node(name="Elsewhere", ae_title="ELSEWHERE", address="192.0.2.1")
    receiving.node(name="Off", ae_title="OFF", is_active=False)
    receiving.node(name="Silent", ae_title="SILENT", may_send=False)
    receiving.start()
    for title in ("STRANGER", "ELSEWHERE", "OFF", "SILENT"):
        refused = dcmtk("echoscu", *receiving.peer(title))
        assert refused.returncode != 0
        assert "Calling AE Title Not Recognized" in refused.stdout
    refused = dcmtk("echoscu", *receiving.peer(called="OTHER"))
    assert "Called AE Title Not Recognized" in refused.stdout
    ct = mr_slice(head(0, 1, 64))
    ct.Modality, ct.SOPClassUID = "CT", CTImageStorage
    ct.file_meta.MediaStorageSOPClassUID = CTImageStorage
    path = tmp_path / "sent" / "ct.dcm"
    path.write_bytes(as_bytes(ct))
    answer = dcmtk("storescu", "-v", *receiving.peer(), str(path))
    assert "DataSetDoesNotMatchSOPClass" in answer.stdout
    assert not receiving.instances()
    # It lives on.
    assert dcmtk("storescu", *receiving.peer(), sent[0]).returncode == 0
    assert len(receiving.instances()) == 1
    receiving.nothing_is_left_of(*IDENTIFIERS, "STRANGER")


def test_noise_and_endless_messages_end_the_connection_alone(receiving: Receiving) -> None:
    receiving.node()
    receiving.start()
    web, request, data = b"GET / HTTP/1.1", b"\x01\x00\xff\xff\xff\xff", b"\x04\x00\x7f\xff\xff\xff"
    for noise in (web, request, data):
        with socket.create_connection(("127.0.0.1", receiving.port), 5) as connection:
            connection.sendall(noise + bytes(200_000))
            connection.settimeout(15)
            with contextlib.suppress(ConnectionError):
                while connection.recv(4096):
                    pass
    assert dcmtk("echoscu", *receiving.peer()).returncode == 0


def test_tls_is_spoken_where_a_certificate_is_given(
    receiving: Receiving, sent: list[str], tmp_path: Path
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *request, *names, *files], check=True, capture_output=True)
    receiving.node()
    receiving.start(SULCUS_DICOM_TLS_CERTIFICATE=str(certificate), SULCUS_DICOM_TLS_KEY=str(key))
    context = ssl.create_default_context(cafile=str(certificate))
    with (
        socket.create_connection(("127.0.0.1", receiving.port), 5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        assert secure.version() in {"TLSv1.2", "TLSv1.3"}
    trust = ["+tla", "+cf", str(certificate)]
    stored = dcmtk("storescu", *trust, *receiving.peer(), sent[0])
    assert stored.returncode == 0, stored.stdout
    assert dcmtk("echoscu", *receiving.peer()).returncode != 0
    assert len(receiving.instances()) == 1


@pytest.mark.parametrize("way", ["dimse", "stow"])
def test_orthanc_sends_a_study(
    receiving: Receiving, orthanc: Orthanc, sent: list[str], way: str
) -> None:
    headers = {"Authorization": orthanc.authorization}
    for path in sent:
        answer = requests.post(
            f"{orthanc.url}/instances", Path(path).read_bytes(), headers=headers, timeout=30
        )
        answer.raise_for_status()
    (study,) = orthanc.get("/studies")
    if way == "dimse":
        receiving.node(ae_title=orthanc.ae_title)
        receiving.start()
        peer = {"AET": "SULCUS", "Host": "127.0.0.1", "Port": receiving.port}
        url, body = "/modalities/sulcus", {"Resources": [study], "Synchronous": True}
        command = f"{url}/store"
    else:
        token = receiving.portal.token(receiving.account.email)
        peer = {
            "Url": receiving.portal.start_web() + "/dicomweb",
            "Username": "archive",
            "Password": token,
        }
        url, body = "/dicom-web/servers/sulcus", {"Resources": [study], "Synchronous": True}
        command = f"{url}/stow"
    requests.put(orthanc.url + url, json=peer, headers=headers, timeout=30).raise_for_status()
    answer = requests.post(orthanc.url + command, json=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    assert len(receiving.instances()) == 5
    receiving.nothing_is_left_of(*IDENTIFIERS)


class TestDicomWeb:
    def test_another_viewer_stores_finds_and_fetches(
        self, receiving: Receiving, tmp_path: Path
    ) -> None:
        address = receiving.portal.start_web() + "/dicomweb"
        token = receiving.portal.token(receiving.account.email)
        client = DICOMwebClient(address, headers={"Authorization": f"Bearer {token}"})
        files = [pydicom.dcmread(pydicom.filebase.DicomBytesIO(one)) for one in axial_series(3)]
        answer = client.store_instances(files)
        assert len(answer.ReferencedSOPSequence) == 3
        again = client.store_instances(files)
        assert len(again.ReferencedSOPSequence) == 3
        assert len(receiving.instances()) == 3

        (study,) = [Dataset.from_json(one) for one in client.search_for_studies()]
        assert re.fullmatch(r"P-[0-9A-Z]{10}", str(study.PatientID))
        assert client.search_for_studies(search_filters={"PatientID": study.PatientID})
        assert not client.search_for_studies(search_filters={"PatientID": "HOSP-4711-X"})
        (series,) = client.search_for_series(study.StudyInstanceUID)
        series_uid = Dataset.from_json(series).SeriesInstanceUID
        found = client.search_for_instances(study.StudyInstanceUID, series_uid)
        assert len(found) == 3
        uid = Dataset.from_json(found[0]).SOPInstanceUID
        place = (study.StudyInstanceUID, series_uid, uid)
        header = Dataset.from_json(client.retrieve_instance_metadata(*place))
        assert header.PatientIdentityRemoved == "YES"
        fetched = client.retrieve_instance(*place)
        originals = [one.pixel_array.tobytes() for one in files]
        assert fetched.pixel_array.tobytes() in originals
        assert client.retrieve_instance_frames(*place, [1])[0] in originals
        assert client.retrieve_instance_rendered(*place, media_types=("image/png",))[:4] == (
            b"\x89PNG"
        )
        assert len(client.retrieve_series(*place[:2])) == 3

        path = tmp_path / "fetched.dcm"
        fetched.save_as(path, enforce_file_format=True)
        dumped = dcmtk("dcmdump", "+P", "PatientID", "+P", "PatientIdentityRemoved", str(path))
        assert dumped.returncode == 0
        assert str(study.PatientID) in dumped.stdout
        assert "[YES]" in dumped.stdout
        receiving.nothing_is_left_of(*IDENTIFIERS)

    def test_nobody_else_sees_it(self, receiving: Receiving) -> None:
        address = receiving.portal.start_web() + "/dicomweb"
        own = receiving.portal.token(receiving.account.email)
        other = receiving.portal.token(receiving.portal.make_user(Role.ADMIN).email)
        client = DICOMwebClient(address, headers={"Authorization": f"Bearer {own}"})
        (content,) = axial_series(1)
        client.store_instances([pydicom.dcmread(pydicom.filebase.DicomBytesIO(content))])
        (instance,) = receiving.instances()
        url = f"{address}/studies/{instance.study_uid}"
        accepts = {"Accept": "multipart/related; type=application/dicom"}

        def ask(authorization: str | None) -> int:
            headers = accepts | ({"Authorization": authorization} if authorization else {})
            return requests.get(url, headers=headers, timeout=30).status_code

        assert ask(f"Bearer {own}") == 200
        assert ask(f"Bearer {other}") == 404
        assert ask("Bearer nonsense") == 401
        assert ask(None) == 401
        foreign = DICOMwebClient(address, headers={"Authorization": f"Bearer {other}"})
        assert foreign.search_for_studies() == []
