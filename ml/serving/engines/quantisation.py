"""Post-training quantisation to 8-bit integers with NNCF, done once when a model is packaged."""

import os
import tempfile
from pathlib import Path

import openvino as ov
from torch import Tensor

from ml.architectures import Network
from ml.serving.engines.export import export_onnx

_CALIBRATION_SLICES = 300


def quantise(network: Network, images: Tensor, path: Path) -> None:
    """Write ``path`` (``.xml``) and its weights beside it (``.bin``).

    Weights become symmetric 8-bit integers for each channel, activations asymmetric ones, ranges
    taken from training slices (Nagel et al. 2021, "A White Paper on Neural Network
    Quantization"). Pooling over the map and the probabilities stay in floating point. Of
    transformers NNCF leaves out what attention and normalisation cannot do without; by the rules of
    convolutions a quarter of their answers were left (docs/research/notes/0023).

    Args:
        images: (N, 1, S, S) in 0..1, prepared training slices; evenly spaced ones are used.
    """
    # NNCF reports its use to its makers unless it believes itself in a test.
    os.environ.setdefault("NNCF_CI", "ON")
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    # The usual range ends at the mean of the slices' maxima, which cuts off what speaks most for a
    # tumour: of a network with few strong places it took a third of the log-odds.
    widest = RangeEstimatorParametersSet.MINMAX

    chosen = images[:: max(1, len(images) // _CALIBRATION_SLICES)].float().numpy()
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "network.onnx"
        export_onnx(network, size=images.shape[-1], path=exported)
        quantised = nncf.quantize(
            ov.Core().read_model(exported),
            nncf.Dataset([chosen[n : n + 1] for n in range(len(chosen))]),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER if network.attends else None,
            subset_size=len(chosen),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=widest
            ),
        )
    ov.save_model(quantised, path)
