"""OpenVINO on the CPU; with a model's 8-bit network it is about three times as fast.

The network is quantised when the model is packaged (:mod:`ml.serving.engines.quantisation`), so
serving needs only the runtime.
"""

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch

from ml.architectures import Output
from ml.errors import InvalidModel
from ml.preprocess import FloatImage

# Set explicitly: "LATENCY" would use half of the logical cores, torch uses all.
_SETTINGS = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
# What a quantised network does not do in 8 bits, such as its head, is done in float32: on a
# processor with bfloat16 the runtime would choose that, at the same speed and with other answers.
_ARITHMETIC = {"int8": "f32", "float32": "f32", "bfloat16": "bf16"}


class OpenVINOEngine:
    """A network in OpenVINO's own format (``.xml`` beside ``.bin``) or in ONNX."""

    def __init__(self, path: Path, *, precision: str) -> None:
        """Compile the network for this processor, which takes a second or two.

        Args:
            precision: shown in the name, and used if the file does not fix it: ``int8`` for
                quantised networks, ``float32`` or ``bfloat16``.

        Raises:
            InvalidModel: the file is missing or not a network that OpenVINO can read.
        """
        self._precision = precision
        settings: dict[str, Any] = _SETTINGS | {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": _ARITHMETIC[precision],
        }
        try:
            self._network = ov.Core().compile_model(str(path), "CPU", settings)
        except RuntimeError as error:
            raise InvalidModel(f"OpenVINO cannot load {path.name}.") from error
        self._request = self._network.create_infer_request()

    @property
    def name(self) -> str:
        """Runtime, device and precision, such as ``OpenVINO cpu int8``."""
        return f"OpenVINO cpu {self._precision}"

    def run(self, images: FloatImage) -> Output:
        """As :meth:`ml.serving.engines.Engine.run`."""
        self._request.infer({0: images}, share_inputs=True)
        # Copied, because the next batch overwrites the request's buffers.
        return Output(
            *(
                torch.from_numpy(np.array(self._request.get_output_tensor(number).data, np.float32))
                for number in range(len(Output._fields))
            )
        )


def supports_int8() -> bool:
    """Whether OpenVINO supports 8-bit integers on this processor."""
    return "INT8" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
