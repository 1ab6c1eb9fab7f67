"""Signed gate reports: who has the installation's key can tell that nobody changed one.

HMAC-SHA256 (RFC 2104) over the report as canonical JSON: keys sorted, no blanks, UTF-8.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

SIGNATURE = "signature"


def sign(report: Mapping[str, Any], key: bytes) -> dict[str, Any]:
    """The report with its signature; an earlier one is replaced.

    Args:
        key: at least 32 random bytes of the installation.

    Raises:
        ValueError: the key is short, or the report holds what JSON does not know (NaN).
    """
    return _unsigned(report) | {SIGNATURE: _signature(report, key)}


def verify(report: Mapping[str, Any], key: bytes) -> bool:
    """Whether the report carries the signature of ``key`` and is what was signed."""
    signature = report.get(SIGNATURE)
    if not isinstance(signature, str):
        return False
    return hmac.compare_digest(signature.encode(), _signature(report, key).encode())


def _signature(report: Mapping[str, Any], key: bytes) -> str:
    if len(key) < hashlib.sha256().digest_size:
        raise ValueError("The key that signs reports has fewer than 32 bytes.")
    canonical = json.dumps(
        _unsigned(report),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )
    return hmac.new(key, canonical.encode(), hashlib.sha256).hexdigest()


def _unsigned(report: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in report.items() if name != SIGNATURE}
