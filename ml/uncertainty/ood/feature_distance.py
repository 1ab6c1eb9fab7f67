"""Distance of a slice's features from those of the network's training slices."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_DIRECTIONS = 16  # dimension of the subspace of the training slices


@dataclass(frozen=True)
class Subspace:
    """The principal subspace of the features of training slices.

    The distance from it is the linear form of the residual of Hoffmann 2007 (Pattern Recognition
    40, "Kernel PCA for novelty detection"). It separates OOD pictures from brains of unseen
    sources better than nearest-neighbour distance, Mahalanobis distance, energy and the largest
    probability (measured in docs/research/familiarity.md). It is computed in float64 and rounded
    to float32, so that a slice's figure does not depend on those beside it in a batch.

    Attributes:
        centre: (512,) mean of the unit-length features.
        directions: (16, 512) orthonormal, each with its largest entry above 0.
    """

    centre: Tensor
    directions: Tensor

    @classmethod
    def of(cls, reference: Tensor) -> "Subspace":
        """Fit to (M, 512) features of unit length."""
        known = reference.float()
        centre = known.mean(0)
        _, _, directions = torch.linalg.svd(known - centre, full_matrices=False)
        first = directions[:_DIRECTIONS]
        # A decomposition leaves the signs open; coordinates are compared between machines.
        largest = first.gather(1, first.abs().argmax(1, keepdim=True))
        return cls(centre, first * torch.sign(largest))

    def coordinates(self, features: Tensor) -> Tensor:
        """(N, 512) features of any length to their (N, 16) coordinates in the subspace."""
        return self._coordinates(self._offset(features)).float()

    def distance(self, features: Tensor) -> Tensor:
        """(N, 512) features of any length to (N,) distances, 0 or more."""
        offset = self._offset(features)
        beside: Tensor = offset - self._coordinates(offset) @ self.directions.double()
        distance: Tensor = torch.linalg.vector_norm(beside, dim=1)
        return distance.float()

    def _offset(self, features: Tensor) -> Tensor:
        """(N, 512) float64: how far the features, at unit length, lie from the centre."""
        return F.normalize(features.double(), dim=1) - self.centre.double()

    def _coordinates(self, offset: Tensor) -> Tensor:
        coordinates: Tensor = offset @ self.directions.double().T
        return coordinates
