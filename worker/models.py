"""The models that this process answers with; those used last stay in memory."""

import hashlib
import logging
import tempfile
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ml.errors import InvalidModel
from webapp.extensions import current_blobs, current_settings
from webapp.models_admin.serving import (
    Arrival,
    FirstModel,
    Off,
    ServingFiles,
    files_of,
    first_model_card,
    refuse_files,
    serving_models,
)
from webapp.storage import DamagedBlob, MissingBlob

if TYPE_CHECKING:
    from ml.serving.predictor import Predictor

# A model takes some hundred megabytes. The first one, what serves, and what is on trial.
KEPT_IN_MEMORY = 3
_FIRST = "first"

Found = TypeVar("Found")

_log = logging.getLogger(__name__)


class Models:
    """Loads models when they are needed. One for each process; not for several threads at once."""

    def __init__(self) -> None:
        self._loaded: OrderedDict[str, Predictor] = OrderedDict()

    def serving(self, study: Arrival | None = None) -> "Predictor | None":
        """What serves the organisation acted for; None where its models are switched off.

        Args:
            study: the one to be answered; a model on trial has some of them.

        A model whose files are missing or were changed is refused, and the one that served before
        it goes on.

        Raises:
            InvalidModel: the installation's first model is missing or damaged.
        """
        return _first_usable(self._candidate, self.first, study)

    def candidate(self, candidate_id: uuid.UUID) -> "Predictor":
        """A candidate of the organisation acted for, which need not serve.

        Raises:
            InvalidModel: a file is missing or was changed.
        """
        try:
            return self._candidate(files_of(candidate_id))
        except MissingBlob as fault:
            raise InvalidModel("a file of the model is missing") from fault

    def first(self) -> "Predictor":
        """The model that the installation was started with.

        Raises:
            InvalidModel: weights or card are missing or damaged.
        """
        return self._load(_FIRST, first_model_card())

    def _candidate(self, files: ServingFiles) -> "Predictor":
        key = files.files[files.card_name] + files.sha256
        if key in self._loaded:
            self._loaded.move_to_end(key)
            return self._loaded[key]
        predictor = self._load(key, materialised(files.files) / files.card_name)
        if predictor.sha256 != files.sha256:
            del self._loaded[key]
            raise InvalidModel("the card is of another model than the one that was promoted")
        return predictor

    def _load(self, key: str, card: Path) -> "Predictor":
        from ml.serving.predictor import Predictor

        found = self._loaded.get(key)
        if found is None:
            found = Predictor.load(card, device=current_settings().device)
            _log.info("model %s is loaded", found.name)
            self._loaded[key] = found
            while len(self._loaded) > KEPT_IN_MEMORY:
                # The first model stays: everything falls back to it.
                oldest = next(one for one in self._loaded if one not in {_FIRST, key})
                del self._loaded[oldest]
        self._loaded.move_to_end(key)
        return found


def serving_card() -> Path:
    """The card of what serves the organisation acted for, its files beside it.

    Where models are switched off, that of the installation's first model.
    """
    found = _first_usable(
        lambda files: materialised(files.files) / files.card_name, first_model_card
    )
    return found or first_model_card()


def _first_usable(
    candidate: Callable[[ServingFiles], Found],
    first: Callable[[], Found],
    study: Arrival | None = None,
) -> Found | None:
    """What serves the organisation acted for, as the callables load it; None where switched off.

    A candidate that cannot be loaded is refused, and the one before it is taken.
    """
    for found in serving_models(study):
        match found:
            case Off():
                return None
            case FirstModel():
                return first()
            case ServingFiles():
                try:
                    return candidate(found)
                except (InvalidModel, MissingBlob) as fault:
                    refuse_files(found, str(fault) or "a file of the model is missing")
    raise AssertionError("the first model stands behind all others")


def materialised(files: Mapping[str, str]) -> Path:
    """A folder with these files of the store, each checked against its hash.

    Args:
        files: name -> SHA-256.

    Raises:
        MissingBlob: one is gone.
        InvalidModel: one is not what its hash says.
    """
    together = "\n".join(f"{name} {key}" for name, key in sorted(files.items()))
    folder = current_settings().home / "models" / hashlib.sha256(together.encode()).hexdigest()
    if not folder.is_dir():
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _fill(folder, files)
    for name, key in files.items():
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise InvalidModel(f"the file {name} cannot be read") from error
        if hashlib.sha256(content).hexdigest() != key:
            raise InvalidModel(f"the file {name} is not what was promoted")
    return folder


def _fill(folder: Path, files: Mapping[str, str]) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as partial:
        whole = Path(partial) / "model"
        whole.mkdir()
        for name, key in files.items():
            try:
                (whole / name).write_bytes(current_blobs().get(key))
            except DamagedBlob as error:
                raise InvalidModel(f"the file {name} is not what was promoted") from error
        try:
            whole.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
