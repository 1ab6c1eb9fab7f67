"""The interface of all engines."""

from typing import Protocol

from ml.architectures import Output
from ml.preprocess import FloatImage


class Engine(Protocol):
    """The forward pass of one network on one runtime and device.

    Deterministic for the same batch; not to be shared between threads.
    """

    @property
    def name(self) -> str:
        """Runtime, device and precision, such as ``torch cpu float32``."""
        ...

    def run(self, images: FloatImage) -> Output:
        """One forward pass.

        Args:
            images: (N, 1, S, S) float32 in 0..1, contiguous; N from 1.

        Returns:
            Logits, maps and features, float32 on the CPU.
        """
        ...
