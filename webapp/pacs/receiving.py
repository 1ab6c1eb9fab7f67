"""Receive one instance from another system and return the status to send back."""

import logging
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError

from ml.errors import UnreadableImage
from webapp.accounts.models import User
from webapp.database import db
from webapp.errors import OtherContent, OtherPatient
from webapp.intake.receiving import receive_instance
from webapp.pacs.models import PacsNode
from webapp.studies.models import Instance

_log = logging.getLogger(__name__)

# C-STORE status (PS3.4 B.2.3) and STOW-RS failure reason (PS3.18 I.2.2) have the same numbers.
SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
NOT_AUTHORISED = 0x0124
DUPLICATE_WITH_OTHER_PIXELS = 0x0111  # PS3.7 annex C: duplicate SOP instance
OUT_OF_RESOURCES = 0xA700
NOT_OF_THIS_KIND = 0xA900
CANNOT_UNDERSTAND = 0xC000
OTHER_PATIENT = 0xC010  # from the range that PS3.4 leaves to the receiver

# Codes for kinds of file that the portal does not accept; other codes concern the single file.
_KINDS = {"not_mr", "colour_capture", "no_pixels", "unsupported"}
_LONGEST_COMMENT = 64  # LO, PS3.5 6.2


@dataclass(frozen=True)
class Receipt:
    """The outcome for one instance.

    Attributes:
        status: one of the numbers in this module.
        comment: why it was refused, at most 64 characters; quotes nothing from the file.
        instance: the row; None if it was refused or already stored.
    """

    status: int
    comment: str = ""
    instance: Instance | None = None


def receive(content: bytes, *, received_by: User, node: PacsNode | None = None) -> Receipt:
    """Store an instance; a true duplicate counts as success. Errors become a status.

    Args:
        content: the caller has reserved memory for it.
    """
    try:
        instance = receive_instance(
            content=content, received_by=received_by, node_id=node.id if node else None
        )
    except UnreadableImage as error:
        db.session.rollback()
        _log.info("an instance was refused: %s", error.code)
        status = NOT_OF_THIS_KIND if error.code in _KINDS else CANNOT_UNDERSTAND
        return Receipt(status, str(error)[:_LONGEST_COMMENT])
    except OtherContent:
        db.session.rollback()
        _log.warning("an instance was refused: other pixels are kept under its SOP Instance UID")
        return Receipt(
            DUPLICATE_WITH_OTHER_PIXELS, "Other pixels are kept under this SOP Instance UID."
        )
    except OtherPatient:
        db.session.rollback()
        _log.warning("an instance was refused: its study is kept of another patient")
        return Receipt(OTHER_PATIENT, "This study is here already, of another patient.")
    except (DBAPIError, OSError, MemoryError) as error:
        return out_of_resources(error)
    except Exception as error:
        db.session.rollback()
        # Log neither the text nor the traceback: both may quote the file.
        _log.error("an instance could not be processed: %s", type(error).__name__)
        return Receipt(PROCESSING_FAILURE, "It could not be processed.")
    return Receipt(SUCCESS, instance=instance)


def out_of_resources(error: Exception) -> Receipt:
    """The status for a sender that may send the instance again later."""
    db.session.rollback()
    _log.error("an instance could not be kept: %s", type(error).__name__)
    return Receipt(OUT_OF_RESOURCES, "It could not be kept. Please send it again.")
