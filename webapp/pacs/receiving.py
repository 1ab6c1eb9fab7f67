"""One instance from another system, and the status that tells it what became of it."""

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

# C-STORE's status (PS3.4 B.2.3) and STOW-RS's failure reason (PS3.18 I.2.2) are the same numbers.
SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
NOT_AUTHORISED = 0x0124
DUPLICATE_WITH_OTHER_PIXELS = 0x0111  # PS3.7 annex C: duplicate SOP instance
OUT_OF_RESOURCES = 0xA700
NOT_OF_THIS_KIND = 0xA900
CANNOT_UNDERSTAND = 0xC000
OTHER_PATIENT = 0xC010  # of the numbers that PS3.4 leaves to whoever receives

# Whole files of a kind that the portal does not take; everything else is wrong with this one file.
_KINDS = {"not_mr", "colour_capture", "no_pixels", "unsupported"}
_LONGEST_COMMENT = 64  # LO, PS3.5 6.2


@dataclass(frozen=True)
class Receipt:
    """What became of an instance.

    Attributes:
        status: one of the numbers of this module.
        comment: why it was refused, at most 64 characters, without a word of the file's own.
        instance: the row; None where it was refused, or is here already.
    """

    status: int
    comment: str = ""
    instance: Instance | None = None


def receive(content: bytes, *, received_by: User, node: PacsNode | None = None) -> Receipt:
    """Take an instance in; a true duplicate is a success. What goes wrong becomes a status.

    Args:
        content: the caller has taken room for it.
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
        # Neither the text nor the traceback: both may quote the file.
        _log.error("an instance could not be processed: %s", type(error).__name__)
        return Receipt(PROCESSING_FAILURE, "It could not be processed.")
    return Receipt(SUCCESS, instance=instance)


def out_of_resources(error: Exception) -> Receipt:
    """The answer to a sender that may try the same again later."""
    db.session.rollback()
    _log.error("an instance could not be kept: %s", type(error).__name__)
    return Receipt(OUT_OF_RESOURCES, "It could not be kept. Please send it again.")
