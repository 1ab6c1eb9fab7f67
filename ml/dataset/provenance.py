"""Who called a slice what it is called, as columns of a snapshot's lists."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from ml.errors import InvalidManifest

Rule = Literal["quorum", "adjudicated", "single"]

COLUMNS = (
    "image_id", "study_id", "readers", "rule", "blind", "model_sha256", "predicted_label",
    "assessed_at", "model_shown",
)  # fmt: skip


@dataclass(frozen=True)
class Provenance:
    """Who called a slice what it is called, and what they had seen.

    Attributes:
        readers: their pseudonyms.
        rule: how their opinions became one label.
        blind: whether each of them gave it before another reader's opinion could be seen.
        model_shown: whether one of them came to it only after the model's answer was shown.
        model_sha256, predicted_label: the answer that stood beside the slice; empty if none did.
        assessed_at: of the last opinion, ISO time in UTC.
    """

    image_id: str
    study_id: str
    readers: tuple[str, ...]
    rule: Rule
    blind: bool
    assessed_at: str
    model_sha256: str = ""
    predicted_label: str = ""
    model_shown: bool = True


def cells_of(said: Provenance) -> dict[str, object]:
    """Its :data:`COLUMNS`."""
    return {
        "image_id": said.image_id,
        "study_id": said.study_id,
        "readers": " ".join(said.readers),
        "rule": said.rule,
        "blind": int(said.blind),
        "model_sha256": said.model_sha256,
        "predicted_label": said.predicted_label,
        "assessed_at": said.assessed_at,
        "model_shown": int(said.model_shown),
    }


def provenance_in(cells: Mapping[str, str], where: str) -> Provenance:
    """Read it from a line; raises :class:`InvalidManifest` for a rule that is not known."""
    if cells["rule"] not in get_args(Rule):
        raise InvalidManifest(f"{where}: the rule {cells['rule']!r} is none that is known.")
    return Provenance(
        image_id=cells["image_id"],
        study_id=cells["study_id"],
        readers=tuple(cells["readers"].split()),
        rule=cast(Rule, cells["rule"]),
        blind=cells["blind"] == "1",
        assessed_at=cells["assessed_at"],
        model_sha256=cells["model_sha256"],
        predicted_label=cells["predicted_label"],
        model_shown=cells.get("model_shown") != "0",
    )
