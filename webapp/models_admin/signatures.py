"""Signatures of gate reports and deployments: a row written past the portal is noticed.

The key is the installation's own, and the database does not hold it (:mod:`ml.release.signing`).
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ml.release import signing
from webapp.extensions import current_settings
from webapp.models_admin.models import Candidate, Deployment


def sign(facts: Mapping[str, Any]) -> str:
    """The signature of ``facts``, 64 hexadecimal digits."""
    return str(signing.sign(facts, _key())[signing.SIGNATURE])


def is_signed(facts: Mapping[str, Any], signature: str | None) -> bool:
    """Whether ``signature`` is that of ``facts``."""
    return signing.verify({**facts, signing.SIGNATURE: signature}, _key())


def _key() -> bytes:
    return current_settings().model_key.encode()


def facts_of(deployment: Deployment, *, at: datetime) -> dict[str, Any]:
    """What the signature of a deployment covers: the row, and the files that it lets serve.

    Args:
        at: when it was made.
    """
    run = deployment.gate_run
    # Rows without a share are signed as they were before there were trials.
    share = {} if deployment.share is None else {"share": deployment.share}
    return {
        **share,
        "organisation": str(deployment.organisation_id),
        "number": deployment.number,
        "kind": deployment.kind.value,
        "model": _model(deployment.candidate),
        "gates": run.signature if run else None,
        "proposed_by": _text(deployment.proposed_by_id),
        "decided_by": _text(deployment.decided_by_id),
        "reason": deployment.reason,
        "at": at.isoformat(),
        "previous": deployment.previous_signature,
    }


def _model(candidate: Candidate | None) -> dict[str, Any] | None:
    if candidate is None:
        return None
    return {
        "sha256": candidate.model_version.sha256,
        "card": candidate.card_name,
        "files": {one.name: one.blob_key for one in candidate.files},
    }


def _text(identifier: object) -> str | None:
    return None if identifier is None else str(identifier)
