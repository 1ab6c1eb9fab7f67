"""C-ECHO (PS3.4 A): check that a node answers and accepts our AE title."""

from enum import StrEnum

from pynetdicom import AE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from webapp.extensions import current_settings
from webapp.pacs.models import PacsNode

# Short, because a user waits for the page.
_CONNECT_SECONDS, _ANSWER_SECONDS = 3.0, 5.0


class Echo(StrEnum):
    """Outcome of a C-ECHO."""

    ANSWERED = "answered"
    NO_PORT = "no_port"
    UNREACHABLE = "unreachable"
    REJECTED = "rejected"
    NO_ECHO = "no_echo"


def verify(node: PacsNode) -> Echo:
    """Send a C-ECHO to the node; takes a few seconds at most."""
    if node.port is None:
        return Echo.NO_PORT
    settings = current_settings()
    entity = AE(ae_title=settings.dicom_ae_title)
    entity.connection_timeout = _CONNECT_SECONDS
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _ANSWER_SECONDS
    entity.add_requested_context(Verification)
    try:
        association = entity.associate(node.address, node.port, ae_title=node.ae_title)
    except OSError:  # the host name is unknown
        return Echo.UNREACHABLE
    if association.is_rejected:
        return Echo.REJECTED
    if not association.is_established:
        return Echo.NO_ECHO if association.acceptor.primitive else Echo.UNREACHABLE
    try:
        answer = association.send_c_echo()
    except (RuntimeError, ValueError):  # the association has ended
        return Echo.NO_ECHO
    finally:
        association.release()
    return Echo.ANSWERED if answer.get("Status") == 0x0000 else Echo.NO_ECHO
