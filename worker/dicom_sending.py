"""C-STORE and STOW-RS: send DICOM objects to an archive and check that it stored each of them."""

from collections.abc import Sequence

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.presentation import build_context

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 30.0
# PS3.7 C.1 and PS3.4 B.2.3: 0xB000 to 0xB007 mean stored, with a warning.
_SUCCESS = 0x0000
_STORED_WITH_REMARK = range(0xB000, 0xB008)
_OUT_OF_RESOURCES = range(0xA700, 0xA800)
# Raised by the JSON and XML readers for responses in an unexpected form.
_UNREADABLE = (AttributeError, KeyError, SyntaxError, TypeError)
_REJECTED_FOR_NOW = 2  # PS3.8 9.3.4: the result of an A-ASSOCIATE-RJ

Objects = Sequence[Dataset]


class NotDelivered(Exception):
    """The archive has not stored every object.

    Attributes:
        reason: a key of ``webapp.reporting.words.DELIVERY_REASONS``.
        passing: whether a later attempt may succeed.
    """

    def __init__(self, reason: str, detail: str = "", *, passing: bool = False) -> None:
        super().__init__(detail)
        self.reason = reason
        self.passing = passing


def store_by_dimse(objects: Objects, *, calling: str, called: str, address: str, port: int) -> None:
    """Send by C-STORE (PS3.4 B).

    Args:
        calling: our application entity title.
        called: the archive's application entity title.

    Raises:
        NotDelivered: at least one object was not stored.
    """
    association = _associate(objects, calling, called, address, port)
    try:
        for each in objects:
            _store(association, each)
    finally:
        if association.is_established:
            association.release()


def store_by_stow(objects: Objects, *, url: str, authorization: str | None) -> None:
    """Send by STOW-RS (PS3.18 10.5). TLS certificates are checked; redirects are not followed.

    Raises:
        NotDelivered: at least one object was not stored.
    """
    timeouts = (_CONNECT_SECONDS, _ANSWER_SECONDS)
    try:
        with _session(authorization) as session:
            client = DICOMwebClient(url=url, session=session, timeout=timeouts)
            # The delivery decides whether and when to try again.
            client.set_http_retry_params(retry=False)
            answer = client.store_instances(list(objects))
    except requests.HTTPError as error:
        raise _refusal(error) from error
    except requests.exceptions.SSLError as error:
        raise NotDelivered("untrusted", type(error).__name__) from error
    except (requests.ConnectionError, requests.Timeout) as error:
        raise NotDelivered("unreachable", type(error).__name__, passing=True) from error
    except (requests.exceptions.JSONDecodeError, *_UNREADABLE) as error:
        raise NotDelivered("not_accepted", "unreadable answer") from error
    except requests.RequestException as error:  # a redirect or an invalid URL
        raise NotDelivered("refused", type(error).__name__) from error
    stored = {
        item.get("ReferencedSOPInstanceUID") for item in answer.get("ReferencedSOPSequence", [])
    }
    missing = {each.SOPInstanceUID for each in objects} - stored
    if missing:
        raise NotDelivered("not_accepted", f"{len(missing)} of {len(objects)} objects")


def _associate(objects: Objects, calling: str, called: str, address: str, port: int) -> Association:
    entity = AE(ae_title=calling)
    entity.connection_timeout = _CONNECT_SECONDS
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _ANSWER_SECONDS
    classes = dict.fromkeys(each.SOPClassUID for each in objects)
    syntaxes: list[str | UID] = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    try:
        association = entity.associate(
            address,
            port,
            ae_title=called,
            contexts=[build_context(each, syntaxes) for each in classes],
        )
    except OSError as error:  # the host name is unknown
        raise NotDelivered("unreachable", type(error).__name__, passing=True) from error
    if association.is_established:
        return association
    if association.is_rejected:
        result = getattr(association.acceptor.primitive, "result", None)
        raise NotDelivered("rejected_association", passing=result == _REJECTED_FOR_NOW)
    if association.acceptor.primitive is not None:
        # It answered, but accepted none of the proposed SOP classes.
        raise NotDelivered("not_accepted", "no presentation context")
    raise NotDelivered("unreachable", passing=True)


def _store(association: Association, each: Dataset) -> None:
    try:
        answer = association.send_c_store(each)
    except ValueError as error:  # no accepted context for this SOP class
        raise NotDelivered("not_accepted", "no presentation context") from error
    except RuntimeError as error:  # the association is gone
        raise NotDelivered("unreachable", "association ended", passing=True) from error
    if "Status" not in answer:
        raise NotDelivered("unreachable", "no answer to C-STORE", passing=True)
    status = int(answer.Status)
    if status == _SUCCESS or status in _STORED_WITH_REMARK:
        return
    raise NotDelivered(
        "not_accepted", f"status 0x{status:04X}", passing=status in _OUT_OF_RESOURCES
    )


def _session(authorization: str | None) -> requests.Session:
    session = requests.Session()
    # An archive that redirects is misconfigured or malicious.
    session.max_redirects = 0
    session.headers["Accept"] = "application/dicom+json"
    session.hooks["response"] = [_plain_media_type]
    if authorization:
        session.headers["Authorization"] = authorization
    return session


def _plain_media_type(answer: requests.Response, **_options: object) -> None:
    """Drop parameters such as charset: dicomweb-client rejects a media type that has them."""
    media_type = answer.headers.get("Content-Type", "")
    answer.headers["Content-Type"] = media_type.partition(";")[0].strip()


def _refusal(error: requests.HTTPError) -> NotDelivered:
    status = error.response.status_code if error.response is not None else 0
    if status in {401, 403, 404, 405}:
        return NotDelivered("refused", f"HTTP {status}")
    if status in {408, 425, 429} or status >= 500:
        return NotDelivered("not_accepted", f"HTTP {status}", passing=True)
    return NotDelivered("not_accepted", f"HTTP {status}")
