"""A gate report cannot be changed unnoticed."""

import json
from typing import Any

import pytest

from ml.release.signing import sign, verify

KEY = bytes(range(32))
REPORT: dict[str, Any] = {"format": 1, "verdict": "pass", "gates": [{"name": "ü", "figure": 0.1}]}


def test_signed_report_is_known_again_whatever_the_order_of_its_keys() -> None:
    signed = sign(REPORT, KEY)
    assert verify(signed, KEY)
    assert verify(json.loads(json.dumps(dict(reversed(signed.items())))), KEY)


def test_signature_is_that_of_any_other_tool() -> None:
    # printf '{"a":1,"b":"ü"}' | openssl dgst -sha256 -mac hmac -macopt hexkey:000102…1f
    assert sign({"b": "ü", "a": 1}, KEY)["signature"] == (
        "288ca8373749085b1caab0377d92c3cd4261e3b738a2fc1d00addc688446d035"
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"verdict": "fail"},
        {"gates": []},
        {"added": None},
        {"signature": "0" * 64},
        {"signature": None},
        {"signature": "ü"},
    ],
)
def test_changed_report_is_not_believed(changed: dict[str, Any]) -> None:
    assert not verify(sign(REPORT, KEY) | changed, KEY)


def test_other_key_does_not_fit_and_a_short_one_is_refused() -> None:
    assert not verify(sign(REPORT, KEY), KEY[::-1])
    with pytest.raises(ValueError, match="fewer than 32 bytes"):
        sign(REPORT, b"short")


def test_unsigned_report_is_not_believed() -> None:
    assert not verify(REPORT, KEY)
