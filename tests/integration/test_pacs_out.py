"""The way out with real peers: Orthanc by C-STORE and by DICOMweb, and what goes wrong there."""

import io
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import highdicom as hd
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, CTImageStorage, SecondaryCaptureImageStorage
from pynetdicom import AE, evt
from pynetdicom.events import Event, EventHandlerType
from sqlalchemy import select, update

from tests.factories import Account
from tests.integration.orthanc import Orthanc
from tests.portal import SAMPLES, Portal
from tests.unit.webapp.reporting.results import Results
from tests.waiting import wait_until
from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.database import db
from webapp.pacs.deliveries import MAX_ATTEMPTS, send_results
from webapp.pacs.models import Delivery, DeliveryStatus, PacsNode, Sending
from webapp.reporting.dicom import dicom_result
from webapp.storage import FolderStore
from webapp.studies.models import Status
from webapp.tenancy import acting_for, unscoped
from worker.dicom_sending import NotDelivered, Objects, store_by_dimse, store_by_stow

pytestmark = pytest.mark.integration
NOBODY = 9  # the discard port, where nobody listens


class Sender:
    """An administrator, their archives and studies."""

    def __init__(self, portal: Portal) -> None:
        self.portal = portal
        self.account: Account = portal.make_user(Role.ADMIN)

    def node(self, **values: Any) -> uuid.UUID:
        given = {"name": "PACS", "ae_title": "ORTHANC", "address": "127.0.0.1"}
        with self.portal.app.app_context(), acting_for(self.account.organisation_id):
            node = PacsNode(registered_by_id=self.account.id, **(given | values))
            db.session.add(node)
            db.session.commit()
            return node.id

    def analysed(self, *paths: Path) -> uuid.UUID:
        study_id = self.portal.submit(self.account, list(paths))
        assert self.portal.wait_for_end(study_id) is Status.DONE
        return study_id

    def send(self, study_id: uuid.UUID, node_id: uuid.UUID) -> uuid.UUID:
        with self.portal.app.app_context(), acting_for(self.account.organisation_id):
            actor = find_user_by_address(self.account.email)
            return send_results(actor=actor, study_id=study_id, node_id=node_id).id

    def delivery(self, delivery_id: uuid.UUID) -> Delivery:
        with self.portal.app.app_context(), unscoped():
            return db.session.get_one(Delivery, delivery_id)

    def wait_for_end(self, delivery_id: uuid.UUID) -> Delivery:
        return wait_until(
            lambda: (
                (delivery := self.delivery(delivery_id)).status is not DeliveryStatus.QUEUED
                and delivery
            ),
            seconds=200,  # on a busy machine the second attempt, two minutes later, may be needed
            what="the end of the delivery",
        )


@pytest.fixture
def sender(portal: Portal) -> Sender:
    portal.start_worker()
    return Sender(portal)


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    """Report, key slice and heatmap of one result."""
    results = Results(FolderStore(tmp_path / "pictures"))
    return dicom_result(results.content(), results.blobs).objects


def dimse(orthanc: Orthanc) -> dict[str, Any]:
    return {
        "sending": Sending.DIMSE,
        "ae_title": orthanc.ae_title,
        "port": orthanc.dicom_port,
    }


def stow(orthanc: Orthanc) -> dict[str, Any]:
    return {
        "sending": Sending.STOW,
        "stow_url": orthanc.dicomweb_url,
        "stow_authorization": orthanc.authorization,
    }


@pytest.mark.parametrize("way", [dimse, stow])
def test_orthanc_receives_and_finds_the_result(
    sender: Sender, orthanc: Orthanc, way: Callable[[Orthanc], dict[str, Any]]
) -> None:
    study_id = sender.analysed(SAMPLES / "glioma-1.jpg")
    node_id = sender.node(**way(orthanc))
    assert sender.wait_for_end(sender.send(study_id, node_id)).status is DeliveryStatus.DONE
    web = DICOMwebClient(orthanc.dicomweb_url, headers={"Authorization": orthanc.authorization})
    uid = f"2.25.{study_id.int}"
    found = [Dataset.from_json(each) for each in web.search_for_instances(uid)]
    assert sorted(each.SOPClassUID for each in found) == sorted(
        [ComprehensiveSRStorage, SecondaryCaptureImageStorage, SecondaryCaptureImageStorage]
    )
    (row,) = web.search_for_series(uid, search_filters={"Modality": "SR"})
    (instance,) = web.retrieve_series(uid, Dataset.from_json(row).SeriesInstanceUID)
    buffer = io.BytesIO()
    instance.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    report = hd.sr.srread(buffer)
    stored = {each.SOPInstanceUID for each in found}
    assert {uids[2] for uids in report.get_evidence()} == stored - {report.SOPInstanceUID}
    # The same result a second time is the same objects.
    assert sender.wait_for_end(sender.send(study_id, node_id)).status is DeliveryStatus.DONE
    assert len(web.search_for_instances(uid)) == 3


def test_dicom_study_s_result_lies_in_its_pseudonymous_study(
    sender: Sender, orthanc: Orthanc
) -> None:
    path = Path(str(get_testdata_file("MR_small.dcm", read=False)))
    study_id = sender.analysed(path)
    delivery = sender.send(study_id, sender.node(**dimse(orthanc)))
    assert sender.wait_for_end(delivery).status is DeliveryStatus.DONE
    web = DICOMwebClient(orthanc.dicomweb_url, headers={"Authorization": orthanc.authorization})
    uid = sender.portal.study(study_id).uid
    assert uid is not None
    modalities = {Dataset.from_json(each).Modality for each in web.search_for_series(uid)}
    assert modalities == {"SR", "OT"}


def test_finished_study_goes_by_itself(sender: Sender, orthanc: Orthanc) -> None:
    sender.node(**dimse(orthanc), sends_by_itself=True)
    study_id = sender.analysed(SAMPLES / "pituitary-1.jpg")
    with sender.portal.app.app_context(), unscoped():
        delivery = db.session.scalars(select(Delivery.id)).one()
    assert sender.wait_for_end(delivery).status is DeliveryStatus.DONE
    assert f"2.25.{study_id.int}" in orthanc.study_uids()


def test_archive_that_does_not_know_its_title_ends_the_delivery(
    sender: Sender, orthanc: Orthanc
) -> None:
    study_id = sender.analysed(SAMPLES / "glioma-1.jpg")
    node_id = sender.node(**dimse(orthanc) | {"ae_title": "SOMEBODY"})
    delivery = sender.wait_for_end(sender.send(study_id, node_id))
    assert (delivery.status, delivery.reason) == (DeliveryStatus.FAILED, "rejected_association")


def test_dead_host_is_tried_again_and_given_up_at_last(sender: Sender) -> None:
    study_id = sender.analysed(SAMPLES / "glioma-1.jpg")
    delivery_id = sender.send(study_id, sender.node(sending=Sending.DIMSE, port=NOBODY))
    waiting = wait_until(
        lambda: (delivery := sender.delivery(delivery_id)).reason and delivery,
        seconds=60,
        what="the first attempt",
    )
    assert (waiting.status, waiting.reason) == (DeliveryStatus.QUEUED, "unreachable")
    with sender.portal.app.app_context(), unscoped():
        db.session.execute(  # as if all but the last attempt had gone by
            update(Delivery).values(attempts=MAX_ATTEMPTS - 1, next_try_at=waiting.created_at)
        )
        db.session.commit()
    ended = sender.wait_for_end(delivery_id)
    assert (ended.status, ended.reason) == (DeliveryStatus.FAILED, "unreachable")


@contextmanager
def archive(contexts: list[str], answer: int = 0x0000, **settings: Any) -> Iterator[int]:
    """A C-STORE server of pynetdicom that answers each object with ``answer``; gives its port."""
    entity = AE(ae_title="PEER")
    for context in contexts:
        entity.add_supported_context(context)
    for name, value in settings.items():
        setattr(entity, name, value)

    def store(_event: Event) -> int:
        return answer

    handlers: list[EventHandlerType] = [(evt.EVT_C_STORE, store)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


ALL = [ComprehensiveSRStorage, SecondaryCaptureImageStorage]


def refusal(objects: Objects, port: int) -> tuple[str, bool]:
    with pytest.raises(NotDelivered) as caught:
        store_by_dimse(objects, calling="SULCUS", called="PEER", address="127.0.0.1", port=port)
    return caught.value.reason, caught.value.passing


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB006])
def test_object_stored_with_a_remark_is_stored(objects: Objects, status: int) -> None:
    with archive(ALL, status) as port:
        store_by_dimse(objects, calling="SULCUS", called="PEER", address="127.0.0.1", port=port)


@pytest.mark.parametrize(
    ("status", "passing"), [(0xA700, True), (0xA900, False), (0xC000, False), (0x0124, False)]
)
def test_refused_object_fails_the_delivery(objects: Objects, status: int, passing: bool) -> None:
    with archive(ALL, status) as port:
        assert refusal(objects, port) == ("not_accepted", passing)


@pytest.mark.parametrize("contexts", [[CTImageStorage], [SecondaryCaptureImageStorage]])
def test_archive_that_takes_no_reports_fails_the_delivery(
    objects: Objects, contexts: list[str]
) -> None:
    with archive(contexts) as port:
        assert refusal(objects, port) == ("not_accepted", False)


def test_archive_that_does_not_know_us_rejects(objects: Objects) -> None:
    with archive(ALL, require_calling_aet=["SOMEBODY"]) as port:
        assert refusal(objects, port) == ("rejected_association", False)


def test_busy_archive_is_asked_again(objects: Objects) -> None:
    with archive(ALL, maximum_associations=1) as port:
        other = AE(ae_title="OTHER")
        other.add_requested_context(SecondaryCaptureImageStorage)
        holding = other.associate("127.0.0.1", port, ae_title="PEER")
        assert holding.is_established
        # On a busy machine the peer may close the connection before its answer is read.
        wait_until(
            lambda: refusal(objects, port) == ("rejected_association", True),
            seconds=30, what="the peer to say that it is busy",
        )  # fmt: skip
        holding.release()


def test_unknown_host_is_unreachable(objects: Objects) -> None:
    with pytest.raises(NotDelivered) as caught:
        store_by_dimse(
            objects, calling="SULCUS", called="PEER", address="no-such-host.invalid", port=104
        )
    assert (caught.value.reason, caught.value.passing) == ("unreachable", True)


class Web:
    """A web server that gives one answer to every STOW-RS request, and keeps what came."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.requests.append((self.path, dict(self.headers)))
                self._read_body()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST  # noqa: N815

            def _read_body(self) -> None:
                if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                    self.rfile.read(int(self.headers.get("Content-Length", 0)))
                    return
                while size := int(self.rfile.readline(), 16):
                    self.rfile.read(size + 2)
                self.rfile.readline()

            def log_message(self, *_arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/dicom-web"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def web() -> Iterator[Callable[..., Web]]:
    """Start a server: ``web(302, {"Location": …}, b"")``."""
    servers: list[Web] = []

    def start(status: int = 200, headers: dict[str, str] | None = None, body: bytes = b"") -> Web:
        servers.append(Web(status, headers or {}, body))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def stored_answer(objects: Objects) -> bytes:
    items = [{"00081155": {"vr": "UI", "Value": [each.SOPInstanceUID]}} for each in objects]
    return json.dumps({"00081199": {"vr": "SQ", "Value": items}}).encode()


def stow_refusal(objects: Objects, url: str) -> tuple[str, bool]:
    with pytest.raises(NotDelivered) as caught:
        store_by_stow(objects, url=url, authorization="Bearer secret")
    assert "secret" not in str(caught.value)
    return caught.value.reason, caught.value.passing


@pytest.mark.parametrize(
    "media_type", ["application/dicom+json", "application/json; charset=utf-8"]
)
def test_stow_signs_in_and_believes_the_list_of_what_is_stored(
    objects: Objects, web: Callable[..., Web], media_type: str
) -> None:
    server = web(200, {"Content-Type": media_type}, stored_answer(objects))
    store_by_stow(objects, url=server.url, authorization="Bearer secret")
    ((path, headers),) = server.requests
    assert path == "/dicom-web/studies"
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Content-Type"].startswith("multipart/related")


def test_object_that_the_answer_does_not_name_is_not_stored(
    objects: Objects, web: Callable[..., Web]
) -> None:
    json_type = {"Content-Type": "application/dicom+json"}
    server = web(202, json_type, stored_answer(objects[:1]))
    assert stow_refusal(objects, server.url) == ("not_accepted", False)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, ("refused", False)),
        (403, ("refused", False)),
        (404, ("refused", False)),
        (409, ("not_accepted", False)),
        (503, ("not_accepted", True)),
    ],
)
def test_http_errors_are_told_apart(
    objects: Objects, web: Callable[..., Web], status: int, expected: tuple[str, bool]
) -> None:
    assert stow_refusal(objects, web(status).url) == expected


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirect_is_not_followed(objects: Objects, web: Callable[..., Web], status: int) -> None:
    target = web(200)
    server = web(status, {"Location": target.url})
    assert stow_refusal(objects, server.url) == ("refused", False)
    assert target.requests == []


@pytest.mark.parametrize("body", [b"", b"<html>stored</html>", b"{", b'["x"]', b'{"00081199": {}}'])
def test_answer_that_says_nothing_is_not_believed(
    objects: Objects, web: Callable[..., Web], body: bytes
) -> None:
    server = web(200, {"Content-Type": "application/dicom+json"}, body)
    assert stow_refusal(objects, server.url) == ("not_accepted", False)


def test_web_server_that_is_away_is_unreachable(objects: Objects) -> None:
    url = f"http://127.0.0.1:{NOBODY}/dicom-web"
    assert stow_refusal(objects, url) == ("unreachable", True)
