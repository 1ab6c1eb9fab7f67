"""Words of reports: doubt, probabilities, deliveries. All translated."""

from collections.abc import Mapping

from flask_babel import LazyString, format_decimal, format_percent
from flask_babel import lazy_gettext as _l

from webapp.wording import LABELS, word

DELIVERY_STATUSES: Mapping[str, LazyString] = {
    "queued": _l("Being sent"),
    "done": _l("Sent"),
    "failed": _l("Not sent"),
}

# Why a delivery failed, or why its last attempt did (Delivery.reason).
DELIVERY_REASONS: Mapping[str, LazyString] = {
    "unreachable": _l("The archive does not respond at its address."),
    "rejected_association": _l(
        "The archive refuses the connection. It must know this portal's application entity (AE) "
        "title and address."
    ),
    "refused": _l(
        "The archive refuses the request. An administrator should check its address and "
        "credentials."
    ),
    "untrusted": _l("This server does not trust the archive's certificate."),
    "not_accepted": _l("The archive did not accept all objects of the result."),
    "disabled": _l("The archive no longer accepts results."),
    "under_way": _l("The study is being analysed again. The new result will be sent afterwards."),
    "internal": _l("Sending failed; the cause has been recorded."),
}


def label_word(label: str) -> str:
    """The class in the reader's language."""
    return str(word(LABELS, label))


def percent(fraction: float | None) -> str:
    """A probability; never "100 %" or "0 %" for what is not: rounding must not feign certainty."""
    if fraction is None:
        return "–"
    if fraction >= 0.995:
        return f"> {format_percent(0.99)}"
    if fraction < 0.005:
        return f"< {format_percent(0.01)}"
    return str(format_percent(fraction))


def share(fraction: float) -> str:
    """A share of countable things, which may well be all or none."""
    return str(format_percent(fraction))


def number(value: float) -> str:
    """A number as the reader's language writes it."""
    return str(format_decimal(value))
