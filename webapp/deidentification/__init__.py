"""Removal of everything that identifies a patient, before a file is stored."""

import uuid

from webapp.deidentification.dicom import Deidentified, as_file, deidentify
from webapp.deidentification.pseudonyms import Pseudonymiser
from webapp.extensions import current_settings

__all__ = ["Deidentified", "Pseudonymiser", "as_file", "deidentify", "pseudonymiser_for"]


def pseudonymiser_for(organisation_id: uuid.UUID) -> Pseudonymiser:
    """The pseudonymiser of one organisation, under this installation's key."""
    settings = current_settings()
    return Pseudonymiser(settings.pseudonym_key.encode(), organisation_id)
