"""DICOM receiver for archives and scanners: ``python -m worker.dicom_receiver`` (C-ECHO, C-STORE).

Runs as a separate process beside the web server. It accepts instances only from registered nodes,
gives each to :func:`webapp.pacs.receiving.receive` and logs nothing about their content:
pynetdicom's log lines quote datasets and are switched off.
"""

import logging
import signal
import socket
import ssl
import sys
import threading
import time
import uuid
from typing import Any, cast
from weakref import WeakKeyDictionary

from flask import Flask
from pydicom import Dataset
from pydicom.pixels import get_decoder
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, _config, evt
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event, EventHandlerType
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer
from sqlalchemy.exc import DBAPIError

from config import InvalidSetting, Settings
from ml.errors import UnreadableImage
from ml.imaging.discretion import hushed
from webapp import create_app
from webapp.accounts.models import User
from webapp.database import db
from webapp.errors import NotFound
from webapp.extensions import current_room
from webapp.pacs.models import PacsNode
from webapp.pacs.queries import find_node, node_calling
from webapp.pacs.receiving import (
    CANNOT_UNDERSTAND,
    NOT_AUTHORISED,
    SUCCESS,
    out_of_resources,
    receive,
)
from webapp.tenancy import acting_for

_log = logging.getLogger(__name__)

MAX_ASSOCIATIONS = 16
# Counts also the connections that have not identified themselves yet.
_MAX_CONNECTIONS = 48
_MAX_PDU = 128 * 1024
# An A-ASSOCIATE-RQ with 128 contexts and many transfer syntaxes is larger than a data PDU.
_LONGEST_PDU = 2**20
# PS3.8 9.3.1: type, a reserved byte, length in four bytes.
_PDU_HEADER, _PDU_TYPES = 6, range(1, 8)
_SMALL_MESSAGE = 2**20
_WAIT_SECONDS = 30.0
_REQUEST_SECONDS, _IDLE_SECONDS = 10.0, 60.0
# Less than the five seconds after which deploy/supervisord.conf kills the process.
_FINISH_SECONDS = 2.0

# PS3.8 9.3.4: result, source and reason of a rejection.
_UNKNOWN_CALLER = (1, 1, 3)
_WRONG_CALLED_TITLE = (1, 1, 7)
_LATER = (2, 3, 1)


class Receiver:
    """The storage SCP of one portal.

    Attributes:
        address: (host, port) that it listens on; the system chose the port if 0 was set.
    """

    def __init__(self, app: Flask, settings: Settings) -> None:
        """Start to listen.

        Raises:
            OSError: the address cannot be used, or the certificate is invalid.
        """
        self._app = app
        self._title = settings.dicom_ae_title
        self._nodes: WeakKeyDictionary[Association, tuple[uuid.UUID, uuid.UUID]]
        self._nodes = WeakKeyDictionary()
        _let_pynetdicom_say_nothing()
        entity = AE(ae_title=self._title)
        entity.maximum_pdu_size = _MAX_PDU
        entity.maximum_associations = MAX_ASSOCIATIONS
        entity.acse_timeout = _REQUEST_SECONDS
        entity.dimse_timeout = entity.network_timeout = _IDLE_SECONDS
        entity.add_supported_context(Verification)
        syntaxes = readable_syntaxes()
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(str(context.abstract_syntax), syntaxes)
        self._server = entity.make_server(
            (settings.dicom_bind, settings.dicom_port),
            ssl_context=_ssl_context(settings),
            evt_handlers=self._handlers(),
            server_class=_Server,
            request_handler=_Handler,
        )
        server = cast("_Server", self._server)
        server.longest_message = settings.max_upload_bytes + _LONGEST_PDU
        server.most_received = max(server.longest_message, settings.max_decoding_bytes // 2)
        self.address: tuple[str, int] = self._server.server_address[:2]
        # pynetdicom counts only the associations of servers in this list.
        entity._servers.append(self._server)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Accept no new associations, let open ones finish, then abort the rest."""
        self._server.shutdown()
        deadline = time.monotonic() + _FINISH_SECONDS
        while self._server.active_associations and time.monotonic() < deadline:
            time.sleep(0.05)
        for association in self._server.active_associations:
            association.abort()

    def _handlers(self) -> list[EventHandlerType]:
        return [
            (evt.EVT_REQUESTED, self._admit),
            (evt.EVT_DIMSE_RECV, _message_received),
            (evt.EVT_C_STORE, self._store),
        ]

    def _admit(self, event: Event) -> None:
        """Reject an association unless a registered node asks for it.

        C-STORE checks the node again, so that nothing is accepted if this fails.
        """
        association = event.assoc
        request = association.requestor.primitive
        if not isinstance(request, A_ASSOCIATE):
            association.is_aborted = True
            return
        try:
            reason = self._reason_to_reject(association, request)
        except Exception as error:
            _log.error("an association could not be judged: %s", type(error).__name__)
            reason = _LATER
        if reason is not None:
            association.acse.send_reject(*reason)
            association.kill()

    def _reason_to_reject(
        self, association: Association, request: A_ASSOCIATE
    ) -> tuple[int, int, int] | None:
        address = association.requestor.address
        if str(request.called_ae_title).strip() != self._title:
            _log.warning("%s called another title than ours", address)
            return _WRONG_CALLED_TITLE
        title = str(request.calling_ae_title).strip()
        with self._app.app_context():
            node = node_calling(ae_title=title, address=address)
            if node is None:
                # The title comes from an unknown sender: it is not logged.
                _log.warning("%s is not a registered sender, or not under this title", address)
                return _UNKNOWN_CALLER
            self._nodes[association] = (node.id, node.organisation_id)
        return None

    def _store(self, event: Event) -> Dataset:
        try:
            return self._stored(event)
        finally:
            _start_counting_again(event)

    def _stored(self, event: Event) -> Dataset:
        known = self._nodes.get(event.assoc)
        if known is None:
            return _status(NOT_AUTHORISED, "This sender is not registered.")
        node_id, organisation_id = known
        with self._app.app_context(), acting_for(organisation_id):
            try:
                return self._receive(event, find_node(node_id))
            except NotFound:
                return _status(NOT_AUTHORISED, "This sender is no longer registered.")
            except UnreadableImage as error:  # larger than the memory budget
                return _status(CANNOT_UNDERSTAND, str(error))
            except (DBAPIError, MemoryError) as error:
                receipt = out_of_resources(error)
                return _status(receipt.status, receipt.comment)

    def _receive(self, event: Event, node: PacsNode) -> Dataset:
        if not (node.is_active and node.may_send):
            return _status(NOT_AUTHORISED, "This sender is switched off.")
        user = db.session.get_one(User, node.registered_by_id)
        size = cast("C_STORE", event.request).DataSet.getbuffer().nbytes  # type: ignore[union-attr]
        with current_room().taken(size):
            with hushed():
                content = event.encoded_dataset()
            receipt = receive(content, received_by=user, node=node)
        return _status(receipt.status, receipt.comment)


class _Server(ThreadedAssociationServer):
    """pynetdicom's server with limits for clients that connect and stall.

    Attributes:
        longest_message: limit of one message in bytes on the wire.
        most_received: limit of all messages being received together, in bytes.
    """

    longest_message = most_received = _LONGEST_PDU

    @property
    def received(self) -> int:
        """Bytes of all messages that are not stored yet."""
        sockets = [one.dul.socket for one in self.active_associations]
        return sum(one.received for one in sockets if isinstance(one, _BoundedSocket))

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection. Its own thread does the TLS handshake, which may be slow."""
        client, address = self.socket.accept()  # type: ignore[union-attr]
        client.settimeout(_REQUEST_SECONDS)
        return client, address

    def verify_request(self, _request: Any, _client_address: Any) -> bool:
        return len(self.active_associations) < _MAX_CONNECTIONS

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            if self.ssl_context is not None:
                request = self.ssl_context.wrap_socket(request, server_side=True)
            request.settimeout(_IDLE_SECONDS)
        except OSError:
            _log.warning("%s did not get through the TLS handshake", client_address[0])
            self.shutdown_request(request)
            return
        super().process_request_thread(request, client_address)

    def handle_error(self, _request: Any, client_address: Any) -> None:
        kind = sys.exc_info()[0] or Exception
        _log.error("a connection from %s failed: %s", client_address[0], kind.__name__)


class _Handler(RequestHandler):
    def _create_association(self) -> Association:
        association = super()._create_association()
        # The bounded socket queues a connection event too: remove that of the first socket.
        association.dul.event_queue.get_nowait()
        bounded = _BoundedSocket(association, client_socket=self.request)
        bounded.server = cast("_Server", self.server)
        association.dul.socket = bounded
        return association


class _BoundedSocket(AssociationSocket):
    """Limits what is read; pynetdicom would accept any length that a client announces."""

    received = 0
    server: _Server

    def recv(self, nr_bytes: int) -> bytearray:
        self.received += nr_bytes
        if nr_bytes > _LONGEST_PDU or self.received > self.server.longest_message:
            _log.warning("a message was cut off: it is larger than the limit")
            raise OSError("larger than the limit")
        if self.received > _SMALL_MESSAGE:
            self._wait_for_others()
        read = super().recv(nr_bytes)
        # pynetdicom would answer every six bytes of noise separately.
        if nr_bytes == _PDU_HEADER and read and read[0] not in _PDU_TYPES:
            _log.warning("a connection was cut off: it does not speak DICOM")
            raise OSError("not DICOM")
        return read

    def _wait_for_others(self) -> None:
        """Make the sender wait while messages fill the memory, where pynetdicom keeps them."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while self.server.received > self.server.most_received:
            if time.monotonic() > deadline:
                _log.warning("a message was cut off: others have filled the memory for too long")
                raise OSError("too many large messages")
            time.sleep(0.05)


def readable_syntaxes() -> list[str]:
    """UIDs of the transfer syntaxes whose pixels can be decoded here."""
    found = []
    for syntax in AllTransferSyntaxes:
        try:
            readable = get_decoder(syntax).is_available
        except NotImplementedError:
            continue
        if readable:
            found.append(str(syntax))
    return found


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    try:
        settings = Settings.from_environment()
        app = create_app(settings)
    except InvalidSetting as problem:
        sys.exit(f"Sulcus cannot start: {problem}")
    if settings.dicom_port == 0:
        print("SULCUS_DICOM_PORT is 0: there is no DICOM receiver.")
        return
    where = f"{settings.dicom_bind}:{settings.dicom_port}"
    threading.excepthook = _log_kind
    # Blocked in all threads, so that this thread can wait for them.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        receiver = Receiver(app, settings)
    except ssl.SSLError as error:
        sys.exit(f"The DICOM receiver cannot use its certificate: {error.reason}.")
    except OSError as error:
        sys.exit(
            f"The DICOM receiver cannot listen at {where} ({error.strerror}). Everything else "
            "runs without it; SULCUS_DICOM_PORT chooses another port, 0 means no receiver."
        )
    tls = " with TLS" if settings.dicom_tls_certificate else ""
    _log.info("DICOM receiver %s listens at %s%s", settings.dicom_ae_title, where, tls)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    receiver.close()


def _let_pynetdicom_say_nothing() -> None:
    _config.LOG_HANDLER_LEVEL = "none"
    # Its remaining log lines quote exceptions, which quote the data.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)


def _message_received(event: Event) -> None:
    """Reset the count after a complete message; after a C-STORE, only once it is stored."""
    if not isinstance(event.message, C_STORE_RQ):
        _start_counting_again(event)


def _start_counting_again(event: Event) -> None:
    connection = event.assoc.dul.socket
    if isinstance(connection, _BoundedSocket):
        connection.received = 0


def _status(status: int, comment: str = "") -> Dataset:
    answer = Dataset()
    answer.Status = status
    if comment and status != SUCCESS:
        answer.ErrorComment = comment
    return answer


def _ssl_context(settings: Settings) -> ssl.SSLContext | None:
    if settings.dicom_tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.dicom_tls_certificate, settings.dicom_tls_key)
    if settings.dicom_tls_ca is not None:
        context.load_verify_locations(settings.dicom_tls_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _log_kind(arguments: threading.ExceptHookArgs) -> None:
    """Log only the type: the exception's text and traceback may quote the data."""
    _log.error("a thread ended: %s", arguments.exc_type.__name__)


if __name__ == "__main__":
    main()
