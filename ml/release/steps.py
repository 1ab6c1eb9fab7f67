"""Make the network of a release's recipe; a rerun continues after the last stored step."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors.torch import save_file

from ml.architectures import ARCHITECTURES, VGG16GAP, VGG16Localisation, VGG16Twofold
from ml.architectures.network import Network, read_weights
from ml.dataset import Entry
from ml.errors import InvalidConfiguration
from ml.files import in_one_piece
from ml.release.joining import between
from ml.release.plan import Plan, Step, started_from
from ml.training.distributed import Distributed
from ml.training.trainer import Trained, train

_NETWORK = "network.safetensors"
_START = "start.json"


@dataclass(frozen=True)
class TrainingData:
    """What the steps that train see.

    Attributes:
        further: additional training slices, for the steps that use them.
        watched: the part whose accuracy is logged; it is not used for selection.
    """

    training: Sequence[Entry]
    further: Sequence[Entry]
    watched: Sequence[Entry]


def make_network(
    plan: Plan, data: TrainingData, *, folder: Path, distributed: Distributed
) -> Trained:
    """The last step's network.

    Args:
        folder: receives one folder per step with checkpoint and log, and the finished network.

    Raises:
        InvalidConfiguration: a step does not match its start, or the run in ``folder``.
        InvalidModel: weights are unavailable.
    """
    for step in plan.steps:
        if not (folder / step.name / _NETWORK).exists():
            network, start = _made(plan, step, data, folder, distributed)
            if distributed.is_main:
                _keep(network, start, folder / step.name)
        distributed.wait()
    last = plan.steps[-1].name
    network = _kept(plan, last, folder)
    network.both_sides = plan.serving.flip
    return Trained(network.eval(), _start_of(folder / last))


def _made(
    plan: Plan, step: Step, data: TrainingData, folder: Path, distributed: Distributed
) -> tuple[Network, str]:
    """A step's network, and a description of the first step's start for tables."""
    if step.kind == "train":
        recipe = plan.recipes[step.name]
        if earlier := started_from(recipe):
            recipe = replace(recipe, start=str(folder / earlier / _NETWORK))
        trained = train(
            recipe,
            [*data.training, *(data.further if step.also else ())],
            list(data.watched),
            folder=folder / step.name,
            distributed=distributed,
        )
        return trained.network, _start_of(folder / earlier) if earlier else trained.start
    one, other = (_kept(plan, name, folder) for name in step.of)
    words = _start_of(folder / step.of[1])
    if step.kind == "blend":
        if type(one) is not type(other):
            raise InvalidConfiguration(
                f"The step {step.name} blends {step.of[0]} and {step.of[1]}, which are of two "
                "architectures: nothing lies between them."
            )
        return between(one, other, step.share), words
    if type(one) is not VGG16GAP or not isinstance(other, VGG16Localisation):
        raise InvalidConfiguration(
            f"The step {step.name} joins a vgg16-gap and a vgg16-odds, in this order."
        )
    return VGG16Twofold.of(one, other), words


def _start_of(folder: Path) -> str:
    """The description of the original starting weights of a step's network, for tables."""
    return str(json.loads((folder / _START).read_text(encoding="utf-8")))


def _keep(network: Network, start: str, folder: Path) -> None:
    """Write the network last and atomically: its file marks the step as done."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _START).write_text(json.dumps(start), encoding="utf-8")
    with in_one_piece(folder / _NETWORK) as partial:
        save_file({name: one.contiguous() for name, one in network.state_dict().items()}, partial)


def _kept(plan: Plan, name: str, folder: Path) -> Network:
    network = ARCHITECTURES[plan.architecture(plan.step(name))].build()
    network.load_state_dict(read_weights(folder / name / _NETWORK))
    return network
