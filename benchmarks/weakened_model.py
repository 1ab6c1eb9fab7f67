"""A model that is worse than the shipped one on purpose: something for a loop to improve.

The convolutions stay. The head that judges the whole slice is fitted from nothing on a few of the
groups of the training part, with wrong labels among them; doubt is fitted on other groups of that
part, and the replayed features are those of both, as for a model that has never seen more.
"""

import argparse
import copy
from dataclasses import replace
from pathlib import Path

import torch

from ml.model_files import BUNDLED
from ml.registry import add_quantised, load_model, save_model
from ml.release.features import Features
from ml.release.head import Head, HeadData, Local, fit_head
from ml.release.packaging import entries_that_stay
from ml.release.replay import Replay, load_replay, replay_path, save_replay
from ml.serving.engines.quantisation import exchange_head
from ml.uncertainty.doubt import Doubt, Unseen
from ml.uncertainty.ood.feature_distance import Subspace

LEARNT, CALIBRATED = 0.05, 0.10  # shares of the groups
WRONG = 0.10  # share of the labels
SEED = 23
_CLASSES = 4
_STRENGTH = 0.2  # of the prior: weak, so that the wrong labels are learnt
_OF_ANOTHER = ("cross_validations",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="a new folder for the model")
    parser.add_argument("--model", type=Path, default=BUNDLED)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    print(weaken(options.model, options.out, seed=options.seed))


def weaken(card: Path, folder: Path, *, seed: int = SEED) -> Path:
    """Write a weakened copy of a model with 8-bit integers and replayed features.

    Args:
        card: of a model with one linear head, 8-bit integers and replayed features.

    Returns:
        The card of the copy.
    """
    folder.mkdir(parents=True)
    model = load_model(card)
    replay = load_replay(card, model)
    generator = torch.Generator().manual_seed(seed)
    learnt, others = _drawn(replay.learnt, generator)
    few = _with_wrong_labels(learnt, generator)
    head = _fitted(few)
    reference = torch.nn.functional.normalize(few.values, dim=1)
    distances = Subspace.of(reference).distance(others.values)
    doubt = Doubt.fit(
        Unseen(head.logits(others.values).float(), others.labels, distances), reference
    )
    network = copy.deepcopy(model.network)
    head.put_into(network)
    network.shift(torch.tensor(doubt.calibration.offsets))
    facts = entries_that_stay(model.card, _OF_ANOTHER) | {"name": "vgg16-weakened"}
    path = save_model(network, doubt, facts, folder=folder, stem=card.stem)
    quantised = path.with_suffix(".int8.xml")
    exchange_head(card.with_suffix(".int8.xml"), load_model(path).network, quantised)
    add_quantised(path, quantised, {"calibrated_on": "as the model that was weakened"})
    save_replay(Replay(few, others), replay_path(path), sha256=load_model(path).sha256)
    return path


def _drawn(known: Features, generator: torch.Generator) -> tuple[Features, Features]:
    """The slices of a few groups with all classes, and those of other groups."""
    groups = known.groups.unique()
    while True:
        order = groups[torch.randperm(len(groups), generator=generator)]
        few = int(len(groups) * LEARNT)
        learnt = known.where(torch.isin(known.groups, order[:few]))
        others = order[few : few + int(len(groups) * CALIBRATED)]
        if len(learnt.labels.unique()) == _CLASSES:
            return learnt, known.where(torch.isin(known.groups, others))


def _with_wrong_labels(features: Features, generator: torch.Generator) -> Features:
    labels = features.labels.clone()
    wrong = torch.randperm(len(labels), generator=generator)[: round(len(labels) * WRONG)]
    shift = torch.randint(1, _CLASSES, (len(wrong),), generator=generator)
    labels[wrong] = (labels[wrong] + shift) % _CLASSES
    return replace(features, labels=labels)


def _fitted(few: Features) -> Head:
    """A head that has learnt these labels alone."""
    everything = torch.ones(len(few), dtype=torch.bool)
    nothing = few.where(~everything)
    blank = Head.blank(few.values.shape[1])
    data = HeadData(blank, 1.0, Local(few, [few]), Replay(few, nothing), everything)
    return fit_head(data, everything, _STRENGTH)


if __name__ == "__main__":
    main()
