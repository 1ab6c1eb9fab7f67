"""The files of a model on disk, found by its card. Nothing here needs torch."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml.errors import InvalidModel

BUNDLED = Path(__file__).with_name("weights") / "vgg16-twofold.json"
"""The card of the model that comes with the product."""


@dataclass(frozen=True)
class ModelFiles:
    """A model's card and the files that belong to it, all in one folder.

    Attributes:
        folder: where they are.
        card_name: file name of the card.
        card: its content.
        names: of all files, the card's first.
    """

    folder: Path
    card_name: str
    card: dict[str, Any]
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.card["name"])

    @property
    def sha256(self) -> str:
        """Hash of the weights, the model's identity."""
        return str(self.card["weights"]["sha256"])

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Each file's name and content, one after the other.

        Raises:
            InvalidModel: a file cannot be read, or the weights have another hash than the card
                says.
        """
        digest = hashlib.sha256()
        weights = self.card["weights"]["files"]
        for name in self.names:
            try:
                content = (self.folder / name).read_bytes()
            except OSError as error:
                raise InvalidModel(f"The file {name} of the model cannot be read.") from error
            if name in weights:
                digest.update(content)
            yield name, content
        if digest.hexdigest() != self.sha256:
            raise InvalidModel(f"The weights of {self.name} have another hash than its card says.")


def find_model_files(card_path: Path) -> ModelFiles:
    """The files of the model with this card, with its replayed features where there are any.

    Raises:
        InvalidModel: there is no such card, it is damaged, or it names a file of another folder.
    """
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidModel(f"The card {card_path} cannot be read: {error}") from error
    names = [card_path.name, *named_by(card)]
    # Replayed features, from which the head can be fitted anew (ml.release.replay).
    replay = f"{card_path.stem}.replay.safetensors"
    if (card_path.parent / replay).is_file():
        names.append(replay)
    return ModelFiles(card_path.parent, card_path.name, card, tuple(names))


def named_by(card: Mapping[str, Any]) -> list[str]:
    """Names of the files that a card names, weights first and in their order.

    Raises:
        InvalidModel: the card has no weights or no name, or a name is none of a file beside it.
    """
    try:
        names = [*card["weights"]["files"], *card.get("quantised", {}).get("files", {})]
        complete = bool(card["name"]) and bool(card["weights"]["sha256"]) and bool(names)
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidModel("The card does not name the model and its weights.") from error
    if not complete or any(not isinstance(one, str) or Path(one).name != one for one in names):
        raise InvalidModel("The card does not name the model and its weights.")
    return names
