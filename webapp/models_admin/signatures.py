"""What the signature of a deployment covers; gate reports are signed as they are."""

from datetime import datetime
from typing import Any

from webapp.models_admin.models import Candidate, Deployment


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
