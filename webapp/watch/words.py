"""The watch in words: statistics, families, verdicts, and one sentence for everybody."""

from collections.abc import Mapping, Sequence

from flask_babel import LazyString, ngettext
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l

from webapp.watch.models import EVERYTHING, Against, DriftAlarm, DriftRun, RunVerdict
from webapp.wording import joined

STATISTICS: Mapping[str, LazyString] = {
    "brightness": _l("Brightness of the picture"),
    "spread": _l("Spread of the grey levels"),
    "shadows": _l("Dark grey levels"),
    "midtones": _l("Middle grey levels"),
    "highlights": _l("Bright grey levels"),
    "head": _l("Share of the picture that the head covers"),
    "sharpness": _l("Sharpness"),
    "size": _l("Size in pixels"),
    "aspect": _l("Width over height"),
    "centre": _l("Contrast between centre and edge"),
    "symmetry": _l("Left-right symmetry"),
    "image_together": _l("All of these together"),
    "features": _l("What the network sees (features)"),
    "labels": _l("Shares of the classes"),
    "ood_score": _l("Unfamiliarity"),
    "max_probability": _l("Probability of the likeliest class"),
    "several_classes": _l("Results that name several classes, or none"),
    "unfamiliar": _l("Studies unlike the training data"),
    "overrides": _l("Studies about which a reader disagreed"),
}
FAMILIES: Mapping[str, LazyString] = {
    "image": _l("Pictures"),
    "features": _l("Features of the network"),
    "labels": _l("Results"),
    "doubt": _l("Doubt"),
    "overrides": _l("Disagreement of readers"),
}
LEVELS: Mapping[str, LazyString] = {
    "0": _l("within the limits"),
    "1": _l("somewhat different"),
    "2": _l("different"),
    "3": _l("very different"),
}
VERDICTS: Mapping[str, LazyString] = {
    RunVerdict.TOO_FEW: _l("too few studies"),
    RunVerdict.NO_BASELINE: _l("nothing to compare with"),
    RunVerdict.STEADY: _l("as before"),
    RunVerdict.CHANGED: _l("different"),
}
AGAINST: Mapping[str, LazyString] = {
    Against.OWN: _l("the baseline of this installation"),
    Against.PUBLISHED: _l("the published reference, with wider limits"),
    Against.NOTHING: _l("nothing"),
}


def word_of(table: Mapping[str, LazyString], value: object) -> str:
    """The word, or the value itself where a newer version wrote it."""
    return str(table.get(str(value), value))


def scope_word(scope: str, nodes: Mapping[str, str]) -> str:
    """Where studies came from: an archive by its name, else the format of the files."""
    if scope == EVERYTHING:
        return str(_("All studies"))
    if scope.startswith("node:"):
        return nodes.get(scope) or str(_("An archive that has been removed"))
    return str(_("Uploads, %(format)s", format=scope.removeprefix("format:")))


def drift_sentence(runs: Sequence[DriftRun], alarms: Sequence[DriftAlarm]) -> str:
    """Whether the studies of late are like those before, for everybody.

    Args:
        runs: of all studies, oldest first.
        alarms: those that are open.
    """
    if alarms:
        families = dict.fromkeys(word_of(FAMILIES, one.family) for one in alarms)
        return str(
            _(
                "Recent studies differ from those before (%(what)s). Results may be less reliable "
                "than what was measured.",
                what=joined(list(families), "standard"),
            )
        )
    compared = [run for run in runs if run.verdict in {RunVerdict.STEADY, RunVerdict.CHANGED}]
    if not compared:
        return str(_("Whether recent studies differ is not known yet: too few have been compared."))
    newest = compared[-1]
    return str(
        ngettext(
            "No alarm. The last comparison was of %(num)d study, with %(what)s.",
            "No alarm. The last comparison was of %(num)d studies, with %(what)s.",
            newest.studies,
            what=word_of(AGAINST, newest.against),
        )
    )
