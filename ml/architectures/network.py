"""The base of all networks: normalisation, ordered layers, a linear head, exact class maps."""

from pathlib import Path
from typing import NamedTuple, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ml.errors import InvalidModel
from ml.labels import LABELS

# The mean and standard deviation of ImageNet's photographs, RGB in 0..1.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)

SCRATCH = "scratch"
IMAGENET = "imagenet"

State = dict[str, Tensor]


class Output(NamedTuple):
    """One forward pass.

    Attributes:
        logits: (N, 4), in the order of :data:`ml.labels.LABELS`.
        maps: (N, 4, h, w), each class's activation map. The logits are pooled from it by a
            formula without weights, so the map shows exactly which positions support the class.
            In ``vgg16-twofold`` the maps belong to the localisation head, not the whole-slice head.
        features: (N, C), pooled features, for the distance to the training data.
    """

    logits: Tensor
    maps: Tensor
    features: Tensor


class Network(nn.Module):
    """Layers, global average pooling, one linear layer.

    With average pooling before one linear layer the class-activation map is exact (Zhou et al.
    2016, CVPR, "Learning Deep Features for Discriminative Localization"): its mean plus the
    head's bias is the logit. This also holds for the patch tokens of a transformer.

    Attributes:
        features: the layers in order; (N, 3, H, W) normalised to the field (N, C, h, w).
        head: C to the four classes.
        multiple: H and W must be multiples of it.
        slow: index of the first layer that trains at the full rate; see
            :meth:`parameter_groups`.
        most_frozen: so many first layers may keep their starting weights; None for all.
        attends: whether it is a transformer, which becomes 8-bit integers by rules of its own.
        answers_linearly: whether the logits are one linear layer's on the pooled features.
        both_sides: whether the answer is the mean of a slice's and its mirror image's.
    """

    mean: Tensor
    scale: Tensor
    multiple: int
    slow: int
    most_frozen: int | None = None
    attends = False
    answers_linearly = True

    def __init__(
        self,
        features: nn.Sequential,
        width: int,
        *,
        mean: tuple[float, float, float],
        deviation: tuple[float, float, float],
        dropout: float,
    ) -> None:
        super().__init__()
        self.features = features
        self.dropout: nn.Module = nn.Dropout(dropout)
        self.head = nn.Linear(width, len(LABELS))
        scale = 1 / torch.tensor(deviation)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", scale.view(1, 3, 1, 1), persistent=False)
        self.both_sides = False
        self._frozen = 0

    def lower(self, images: Tensor, layers: int) -> Tensor:
        """The output of the first ``layers`` layers for prepared slices (N, 1, H, W) in 0..1."""
        # The layers may be in half precision; the subtraction needs float32.
        precision = next(self.features.parameters()).dtype
        normalised = ((images - self.mean) * self.scale).to(precision)
        ordered = normalised.contiguous(memory_format=torch.channels_last)
        result: Tensor = self.features[:layers](ordered)
        return result

    def field(self, images: Tensor, skipped: int = 0) -> Tensor:
        """The last feature map, (N, C, h, w)."""
        if skipped == 0:
            return self.lower(images, len(self.features))
        field: Tensor = self.features[skipped:](images)
        return field

    def forward(self, images: Tensor, skipped: int = 0) -> Output:
        """Run the network on a batch.

        Args:
            images: (N, 1, H, W) prepared slices in 0..1; H and W multiples of ``multiple``.
            skipped: number of first layers to skip; ``images`` is then their output.
        """
        output = self.judge(images, skipped)
        if not self.both_sides or self.training or skipped:
            return output
        mirrored = self.judge(images.flip(3))
        return Output(
            (output.logits + mirrored.logits) / 2,
            (output.maps + mirrored.maps.flip(3)) / 2,
            (output.features + mirrored.features) / 2,
        )

    def judge(self, images: Tensor, skipped: int = 0) -> Output:
        """One pass, as :meth:`forward` describes it."""
        field = self.field(images, skipped)
        pooled = field.float().mean((2, 3))
        logits = self.head(self.dropout(pooled))
        maps = torch.einsum("nchw,kc->nkhw", field, self.head.weight.to(field.dtype))
        return Output(logits, maps, pooled)

    @property
    def heads(self) -> list[nn.Linear]:
        """The linear layers that map the last feature map to classes."""
        return [self.head]

    @property
    def last_layers(self) -> list[nn.Module]:
        """The last quarter of the layers."""
        return list(self.features[3 * len(self.features) // 4 :])

    def compute_in(self, dtype: torch.dtype) -> None:
        """Compute the layers in ``dtype``; the head stays in float32.

        The head is cheap, and it sets the precision of the probabilities.
        """
        self.features.to(dtype)

    def settle(self, size: int) -> None:
        """Fix the input size to ``size`` px, as an exported network has it.

        Does nothing here, because convolutions take any size.
        """

    @property
    def localisation_balance(self) -> Tensor | None:
        """(4,) for :func:`ml.architectures.vgg.pool_odds`; None without a localisation head."""
        return None

    @torch.no_grad()
    def shift(self, offsets: Tensor) -> None:
        """Add (4,) offsets to the logits of every slice, up to a constant shared by all classes."""
        self.head.bias.add_(offsets)

    def parameter_groups(
        self, *, head_rate: float, body_rate: float, frozen: int
    ) -> list[dict[str, object]]:
        """Learning rates of the head and of the layers; the first ``frozen`` layers have none.

        Edges and bars look the same in photographs and in MRI, and the first layers at full
        resolution are the most expensive to train. Layers before ``slow`` train at half the rate.
        """
        for parameter in self.features[:frozen].parameters():
            parameter.requires_grad_(False)
        self._frozen = frozen
        late = max(self.slow, frozen)
        above = [p for name, p in self.named_parameters() if self._is_above(name)]
        groups: list[dict[str, object]] = [{"params": above, "lr": head_rate}]
        for layers, rate in (
            (self.features[late:], body_rate),
            (self.features[frozen:late], body_rate / 2),
        ):
            if parameters := list(layers.parameters()):
                groups.append({"params": parameters, "lr": rate})
        return groups

    def train(self, mode: bool = True) -> Self:
        """Set the mode; frozen layers stay in evaluation mode and keep their batch statistics."""
        super().train(mode)
        self.features[: self._frozen].eval()
        return self

    def start_from(self, source: str) -> str:
        """Load weights: ``imagenet`` (the published ones), ``scratch`` or a safetensors file.

        If the file holds a trained model of this program, its head is loaded too.

        Returns:
            A description of the loaded weights for tables.

        Raises:
            InvalidModel: the weights are unavailable or do not fit.
        """
        if source == SCRATCH:
            return "scratch"
        if source == IMAGENET:
            state, words = self.published()
        else:
            state, words = read_weights(Path(source)), f"file {Path(source).name}"
        self.fill(state, source)
        return words

    def fill(self, state: State, source: str) -> None:
        """Load weights that use the names of this class or of its library.

        Raises:
            InvalidModel: they do not fit; the message names ``source``.
        """
        try:
            self.take(state)
        except (RuntimeError, KeyError) as error:
            raise InvalidModel(f"{source} does not hold weights of this network.") from error

    def published(self) -> tuple[State, str]:
        """The weights that the network's authors or its library publish, and their name.

        Raises:
            InvalidModel: they are unavailable.
        """
        raise NotImplementedError

    def take(self, state: State) -> None:
        """Load weights that use the names of this class or of its library.

        Raises:
            RuntimeError: they do not fit.
            KeyError: some are missing.
        """
        own = part(state, "features.")
        self.features.load_state_dict(own or self.translated(state))
        if own and (head := part(state, "head.")):
            self.head.load_state_dict(head)

    def translated(self, state: State) -> State:
        """Map the library's layer names to those of ``features``; by default they are the same."""
        return part(state, "features.")

    def _is_above(self, name: str) -> bool:
        """Whether a parameter belongs to the head."""
        return not name.startswith("features.")


def part(state: State, prefix: str) -> State:
    """The tensors whose names begin with ``prefix``, in float32; the prefix is removed."""
    return {
        name.removeprefix(prefix): tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }


def read_weights(path: Path) -> State:
    """Read a safetensors file.

    Raises:
        InvalidModel: it cannot be read.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InvalidModel(f"{path} cannot be read as safetensors.") from error
