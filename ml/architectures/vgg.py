"""VGG16 (Simonyan and Zisserman 2015) with four different heads."""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VGG16_Weights
from torchvision.models.vgg import cfgs, make_layers

from ml.architectures.network import Network, Output, State, part
from ml.errors import InvalidModel
from ml.labels import INDEX, LABELS, Label

# VGG16_Weights.IMAGENET1K_FEATURES: RGB in 0..1 minus this mean, divided by 1/255.
_MEAN = (0.48235, 0.45882, 0.40784)
_DEVIATION = (1 / 255, 1 / 255, 1 / 255)

_NO_TUMOR = INDEX[Label.NO_TUMOR]
# Initial value: a tumour covers about a tenth of the slice. Training refines it.
_USUAL_BALANCE = 2.3
_PLACES_DROPOUT = 0.2  # of whole channels
_NEVER = -30.0  # log-odds of a position that is masked out

SHARED = 24  # layers up to the end of block 4
_WIDTH = 512  # channels of the last layers
_GRID = 7  # side of the input field of the flattened head
_UNITS = 512  # of the flattened head


class VGG16GAP(Network):
    """VGG16's convolutions, global average pooling, one linear layer.

    The last max-pooling is omitted, so that the maps are 11 x 11 at 176 px.
    """

    multiple = 16
    slow = 17  # block 1 ends with layer 5, block 2 with layer 10, block 3 with layer 17

    def __init__(self, dropout: float = 0.3) -> None:
        super().__init__(
            _convolutions()[:-1], _WIDTH, mean=_MEAN, deviation=_DEVIATION, dropout=dropout
        )

    def published(self) -> tuple[State, str]:
        """The authors' convolution weights, downloaded by torchvision."""
        weights = VGG16_Weights.IMAGENET1K_FEATURES
        return weights.get_state_dict(progress=True), "ImageNet, torchvision (authors' weights)"


class LocalisationNetwork(VGG16GAP):
    """Base of the networks with a localisation head.

    Their maps are log-odds of each tumour class against no tumour at each position.

    Attributes:
        balance: (4,) for :func:`pool_odds`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.balance = nn.Parameter(torch.full((len(LABELS),), _USUAL_BALANCE))

    @property
    def localisation_balance(self) -> Tensor:
        """As for every network."""
        return self.balance.detach().clone()

    def pool(self, maps: Tensor, where: Tensor | None = None) -> Tensor:
        """:func:`pool_odds` with the network's balance."""
        return pool_odds(maps, self.balance, where)

    def opinions(self, output: Output) -> list[Tensor]:
        """The logits (N, 4) that each get their own loss."""
        return [output.logits]

    def take(self, state: State) -> None:
        """As for every network; a file of this architecture also sets the balance."""
        super().take(state)
        balance = state.get("balance")
        if balance is not None and balance.shape == self.balance.shape:
            self.balance = nn.Parameter(balance.float())

    def parameter_groups(
        self, *, head_rate: float, body_rate: float, frozen: int
    ) -> list[dict[str, object]]:
        """As for every network, with ten times the head's rate for the balance."""
        groups = super().parameter_groups(head_rate=head_rate, body_rate=body_rate, frozen=frozen)
        return [*groups, {"params": [self.balance], "lr": 10 * head_rate, "weight_decay": 0.0}]

    def _is_above(self, name: str) -> bool:
        return super()._is_above(name) and name != "balance"


class VGG16Localisation(LocalisationNetwork):
    """VGG16's convolutions and a localisation head: one linear layer classifies each position.

    Each class's map is its log-odds against no tumour at a position. The odds of the whole slice
    are the mean of the odds of its positions, times one factor per class (``balance``). No tumour
    needs no evidence: it remains if no position supports a tumour. So tissue outside a tumour's
    outline teaches the network the tumour-free tissue of the same hospital, and a hospital's look
    alone is no evidence for or against a tumour. Pooling by the logarithm of the mean of
    exponentials: Pinheiro and Collobert 2015 (CVPR), "From Image-level to Pixel-level Labeling
    with Convolutional Networks".
    """

    answers_linearly = False

    def __init__(self, dropout: float = _PLACES_DROPOUT) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(dropout)

    def judge(self, images: Tensor, skipped: int = 0) -> Output:
        """As for :class:`ml.architectures.Network`."""
        field = self.field(images, skipped)
        maps = _localisation_maps(field, self.head, self.dropout)
        return Output(self.pool(maps), maps, field.float().mean((2, 3)))

    @torch.no_grad()
    def shift(self, offsets: Tensor) -> None:
        """As for every network; the maps stay unchanged."""
        self.balance.add_(offsets - offsets[_NO_TUMOR])


class VGG16Twofold(LocalisationNetwork):
    """VGG16 with two copies of its last block: one for the whole slice, one for each position.

    The whole-slice head is that of :class:`VGG16GAP`, the localisation head that of
    :class:`VGG16Localisation`. Both share the first four blocks, so the second head costs a tenth
    of a pass. Logits and features come from the whole-slice head, maps from the localisation head
    (docs/research/notes/0018).

    Both heads are trained together, or :func:`ml.release.joining.join` combines two trained
    networks.
    """

    most_frozen = SHARED

    def __init__(self) -> None:
        super().__init__()
        self.places = _convolutions()[SHARED:-1]
        self.places_head = nn.Linear(_WIDTH, len(LABELS))
        self.places_dropout = nn.Dropout2d(_PLACES_DROPOUT)

    @classmethod
    def of(cls, whole: VGG16GAP, places: VGG16Localisation) -> Self:
        """Combine two networks into one.

        Raises:
            InvalidModel: they do not share their first four blocks.
        """
        pairs = zip(
            whole.features[:SHARED].parameters(),
            places.features[:SHARED].parameters(),
            strict=True,
        )
        if not all(torch.equal(one, other) for one, other in pairs):
            raise InvalidModel("The two networks do not share their first four blocks.")
        network = cls()
        network.features.load_state_dict(whole.features.state_dict())
        network.head.load_state_dict(whole.head.state_dict())
        network.places.load_state_dict(places.features[SHARED:].state_dict())
        network.places_head.load_state_dict(places.head.state_dict())
        network.balance.data.copy_(places.balance.data)
        return network

    def field(self, images: Tensor, skipped: int = 0) -> Tensor:
        """Both last feature maps, (N, 1024, h, w): whole-slice, then localisation."""
        if skipped == len(self.features):
            return images
        shared = (
            self.lower(images, SHARED) if skipped == 0 else self.features[skipped:SHARED](images)
        )
        return torch.cat([self.features[SHARED:](shared), self.places(shared)], 1)

    def judge(self, images: Tensor, skipped: int = 0) -> Output:
        """As for :class:`ml.architectures.Network`; ``skipped`` is at most the shared layers."""
        whole, places = self.field(images, skipped).chunk(2, 1)
        pooled = whole.float().mean((2, 3))
        maps = _localisation_maps(places, self.places_head, self.places_dropout)
        return Output(self.head(self.dropout(pooled)), maps, pooled)

    def opinions(self, output: Output) -> list[Tensor]:
        """The logits of the whole-slice head and of the localisation head."""
        return [output.logits, self.pool(output.maps)]

    def take(self, state: State) -> None:
        """As for every network; from other architectures both copies take the same last block."""
        super().take(state)
        own = part(state, "places.")
        self.places.load_state_dict(own or self.features[SHARED:].state_dict())
        if head := part(state, "places_head."):
            self.places_head.load_state_dict(head)

    def parameter_groups(
        self, *, head_rate: float, body_rate: float, frozen: int
    ) -> list[dict[str, object]]:
        """As for every network; the localisation block trains like the other layers."""
        groups = super().parameter_groups(head_rate=head_rate, body_rate=body_rate, frozen=frozen)
        return [*groups, {"params": list(self.places.parameters()), "lr": body_rate}]

    def _is_above(self, name: str) -> bool:
        return super()._is_above(name) and not name.startswith("places.")

    @property
    def heads(self) -> list[nn.Linear]:
        """As for every network."""
        return [self.head, self.places_head]

    @property
    def last_layers(self) -> list[nn.Module]:
        """As for every network: both copies of the last block."""
        return [*self.features[SHARED:], *self.places]

    def compute_in(self, dtype: torch.dtype) -> None:
        """As for every network."""
        super().compute_in(dtype)
        self.places.to(dtype)

    @torch.no_grad()
    def shift(self, offsets: Tensor) -> None:
        """As for every network; the localisation maps stay unchanged."""
        self.head.bias.add_(offsets)


class VGG16Flatten(VGG16GAP):
    """The head of the project that Sulcus is based on: flattened field, 512 units, four classes.

    The units weigh each position separately, so pooling does not give the map. The gradient of a
    logit has a closed form, and the map is gradient times field, summed over channels (HiResCAM;
    Draelos and Carin 2020, arXiv 2011.08891). With the biases it sums to the logit exactly, and no
    backward pass is needed. Average pooling to 7 x 7, the original's field at 224 px, allows
    other input sizes.
    """

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__(dropout)
        self.features = _convolutions()
        # As the original at 224 px; at other sizes nothing is lost at the edge.
        self.features[-1] = nn.MaxPool2d(2, ceil_mode=True)
        self.hidden = nn.Linear(_WIDTH * _GRID * _GRID, _UNITS)
        self.head = nn.Linear(_UNITS, len(LABELS))

    def judge(self, images: Tensor, skipped: int = 0) -> Output:
        """As for :class:`ml.architectures.Network`; the features are the 512 units."""
        field = self.field(images, skipped).float()
        rows, columns = (
            _averages(int(side)).to(field.device) for side in (field.shape[2], field.shape[3])
        )
        grid = rows @ field @ columns.T
        units = F.relu(self.hidden(grid.flatten(1)))
        return Output(self.head(self.dropout(units)), self._maps(grid, units), units)

    def take(self, state: State) -> None:
        """As for every network; a file of this architecture gives the 512 units as well."""
        own = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
        if "hidden.weight" in state:
            self.hidden.load_state_dict(
                {name: state[f"hidden.{name}"].float() for name in ("weight", "bias")}
            )
            own = state
        super().take(own)

    @torch.no_grad()
    def _maps(self, grid: Tensor, units: Tensor) -> Tensor:
        open_units = self.head.weight * (units > 0)[:, None]
        slopes = (open_units @ self.hidden.weight).view(-1, len(LABELS), *grid.shape[1:])
        return (slopes * grid[:, None]).sum(2)


def _averages(side: int) -> Tensor:
    """(7, ``side``) matrix of adaptive average pooling of a row to 7 values.

    The pooling layer can be exported only for sides that are multiples of 7.
    """
    edges = [(n * side // _GRID, -(-(n + 1) * side // _GRID)) for n in range(_GRID)]
    return torch.tensor(
        [[(a <= n < b) / (b - a) for n in range(side)] for a, b in edges], dtype=torch.float32
    )


def _localisation_maps(field: Tensor, head: nn.Linear, dropout: nn.Module) -> Tensor:
    """(N, 4, h, w) log-odds against no tumour at each position of a field (N, C, h, w)."""
    weight = head.weight.to(field.dtype)[:, :, None, None]
    scores = F.conv2d(dropout(field), weight).float()
    scores = scores + head.bias.float()[:, None, None]
    return scores - scores[:, _NO_TUMOR, None]


def pool_odds(maps: Tensor, balance: Tensor, where: Tensor | None = None) -> Tensor:
    """Logits (N, 4) of whole slices from the odds of their positions.

    Args:
        maps: (N, 4, h, w) log-odds against no tumour.
        balance: (4,), added to each class's mean log-odds.
        where: (N, h, w) bool, the positions that count; all if None. A slice without any counts
            as free of tumour.
    """
    places = maps.flatten(2)
    if where is None:
        count = places.new_tensor(float(places.shape[2]))
    else:
        inside = where.flatten(1)[:, None]
        places = places.masked_fill(~inside, _NEVER)
        count = inside.sum(2).clamp(min=1).to(maps.dtype)
    tumors = places.logsumexp(2) - count.log() + balance
    is_tumor = torch.ones_like(balance)
    is_tumor[_NO_TUMOR] = 0
    return tumors * is_tumor.detach()


def tumor_by_localisation(maps: Tensor, balance: Tensor) -> Tensor:
    """(N,) probability of a tumour of any class, from the odds of the places alone.

    Args:
        maps: (N, 4, h, w) log-odds against no tumour.
        balance: as for :func:`pool_odds`.
    """
    return 1 - torch.softmax(pool_odds(maps, balance), 1)[:, _NO_TUMOR]


def _convolutions() -> nn.Sequential:
    """torchvision's layers, randomly initialised, without its large classifier."""
    layers: nn.Sequential = make_layers(cfgs["D"])
    for layer in layers:
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return layers
