"""The torch engine, which runs on any CPU or GPU."""

import torch

from ml.architectures import Network, Output
from ml.preprocess import FloatImage


class TorchEngine:
    """torch in eager mode, channels last."""

    def __init__(self, network: Network, *, device: torch.device, dtype: torch.dtype) -> None:
        self._device = device
        self._dtype = dtype
        self.network = network.to(device).to(memory_format=torch.channels_last).eval()
        self.network.compute_in(dtype)

    @property
    def name(self) -> str:
        """Runtime, device and precision, such as ``torch cpu bfloat16``."""
        return f"torch {self._device.type} {str(self._dtype).removeprefix('torch.')}"

    @torch.inference_mode()
    def run(self, images: FloatImage) -> Output:
        """As :meth:`ml.serving.engines.Engine.run`."""
        output = self.network(torch.from_numpy(images).to(self._device))
        return Output(*(part.float().cpu() for part in output))
