"""Who is who in snapshots: names that mean something inside of snapshots alone."""

import hashlib
import hmac
import uuid

from webapp.extensions import current_settings
from webapp.tenancy import current_organisation_id


def patient_group(code: str) -> str:
    """A patient of the organisation acted for, by code: the same after being deleted and sent anew.

    Held out or learnt from follows from this name; so a patient stays in one part for good.
    """
    return _name("patient", code)


def reader_name(user_id: uuid.UUID) -> str:
    """A reader of the organisation acted for."""
    return _name("reader", str(user_id))


def _name(kind: str, text: str) -> str:
    key = current_settings().snapshot_key.encode()
    message = f"{kind}:{current_organisation_id()}:{text}"
    return hmac.new(key, message.encode(), hashlib.sha256).hexdigest()[:32]
