"""ONNX Runtime in float32, for comparison in the bench and as a base for other runtimes."""

from pathlib import Path

import onnxruntime as ort
import torch

from ml.architectures import Output
from ml.preprocess import FloatImage


class ONNXRuntimeEngine:
    """An exported network (:func:`ml.serving.engines.export.export_onnx`) on the CPU."""

    name = "ONNX Runtime cpu float32"

    def __init__(self, path: Path) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = ort.InferenceSession(str(path), options, ["CPUExecutionProvider"])

    def run(self, images: FloatImage) -> Output:
        """As :meth:`ml.serving.engines.Engine.run`."""
        return Output(*map(torch.from_numpy, self._session.run(None, {"images": images})))
