"""Words of the operator's page."""

from collections.abc import Mapping

from flask_babel import LazyString
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l

from webapp import queueing

QUEUES: Mapping[str, LazyString] = {
    queueing.URGENT: _l("Urgent studies"),
    queueing.INFERENCE: _l("Studies"),
    queueing.DELIVERY: _l("Sending to archives"),
    queueing.HOUSEKEEPING: _l("Housekeeping"),
    queueing.BACKGROUND: _l("Comparisons in idle time"),
    queueing.TRAINING: _l("Training and gates"),
}
TASKS: Mapping[str, LazyString] = {
    queueing.CLASSIFY: _l("analyses a study"),
    queueing.DELIVER: _l("sends results"),
    queueing.GATES: _l("runs the gates"),
    queueing.RETRAIN: _l("retrains a model"),
    queueing.SNAPSHOT: _l("makes a snapshot"),
    queueing.RESEND: _l("looks for lost jobs"),
    queueing.SWEEP: _l("removes unused files"),
    queueing.PURGE: _l("removes old drafts"),
    queueing.WATCH: _l("compares studies"),
    queueing.ROLL_OUT: _l("plans comparisons"),
}


def age(seconds: float) -> str:
    """A span of time in its largest fitting unit."""
    if seconds < 90:
        return str(_("%(n)s s", n=round(seconds)))
    if seconds < 5400:
        return str(_("%(n)s min", n=round(seconds / 60)))
    return str(_("%(n)s h", n=round(seconds / 3600)))
