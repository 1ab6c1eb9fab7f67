"""Which studies fall into a share: always the same ones, as if drawn by lot."""

import hashlib
import uuid


def is_in_share(study_id: uuid.UUID, share: int, *, of: uuid.UUID) -> bool:
    """Whether a study is among ``share`` per cent of all studies.

    Args:
        of: what the share is for, so that different trials draw different studies.
    """
    digest = hashlib.sha256(of.bytes + study_id.bytes).digest()
    return int.from_bytes(digest[:8], "big") % 100 < share
