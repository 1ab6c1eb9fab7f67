"""Words and numbers of reports. All are translated."""

from collections.abc import Mapping

from flask_babel import LazyString, format_decimal, format_percent
from flask_babel import lazy_gettext as _l

from webapp.wording import LABELS, word

DELIVERY_STATUSES: Mapping[str, LazyString] = {
    "queued": _l("Being sent"),
    "done": _l("Sent"),
    "failed": _l("Not sent"),
}

# Why a delivery, or its last attempt, failed (Delivery.reason).
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
    """The class in the user's language."""
    return str(word(LABELS, label))


def percent(fraction: float | None) -> str:
    """A probability; never "100 %" or "0 %" through rounding, which would suggest certainty."""
    if fraction is None:
        return "–"
    if fraction >= 0.995:
        return f"> {format_percent(0.99)}"
    if fraction < 0.005:
        return f"< {format_percent(0.01)}"
    return str(format_percent(fraction))


def share(fraction: float) -> str:
    """A fraction of countable items, which can really be all or none."""
    return str(format_percent(fraction))


def number(value: float) -> str:
    """A number in the format of the user's language."""
    return str(format_decimal(value))
