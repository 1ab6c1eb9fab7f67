"""OpenVINO on the CPU: 8-bit integers where the model ships them, about three times as fast.

The network was quantised when the model was packaged (:mod:`ml.serving.engines.quantisation`), so
serving needs the runtime alone.
"""

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import torch

from ml.architectures import Output
from ml.errors import InvalidModel
from ml.preprocess import FloatImage

# By hand: "LATENCY" would take half of the logical cores, torch takes them all.
_SETTINGS = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}


class OpenVINOEngine:
    """A network in OpenVINO's own format (``.xml`` beside ``.bin``) or in ONNX."""

    def __init__(self, path: Path, *, precision: str) -> None:
        """Compile the network for this processor, which takes a second or two.

        Args:
            precision: how the name says it, and what is computed where the file does not tell:
                ``int8`` for quantised networks, ``float32`` or ``bfloat16``.

        Raises:
            InvalidModel: the file is missing or not a network that OpenVINO understands.
        """
        self._precision = precision
        settings: dict[str, Any] = _SETTINGS | {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
        if precision != "int8":
            settings["INFERENCE_PRECISION_HINT"] = {"float32": "f32", "bfloat16": "bf16"}[precision]
        try:
            self._network = ov.Core().compile_model(str(path), "CPU", settings)
        except RuntimeError as error:
            raise InvalidModel(f"OpenVINO cannot load {path.name}.") from error
        self._request = self._network.create_infer_request()

    @property
    def name(self) -> str:
        """Such as ``OpenVINO cpu int8``."""
        return f"OpenVINO cpu {self._precision}"

    def run(self, images: FloatImage) -> Output:
        """As :meth:`ml.serving.engines.Engine.run`."""
        self._request.infer({0: images}, share_inputs=True)
        # Copied: the next batch overwrites what the request holds.
        return Output(
            *(
                torch.from_numpy(np.array(self._request.get_output_tensor(number).data, np.float32))
                for number in range(len(Output._fields))
            )
        )


def supports_int8() -> bool:
    """Whether OpenVINO computes in 8-bit integers on this processor."""
    return "INT8" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
