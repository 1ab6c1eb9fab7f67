"""Access to timm (Wightman 2019); only training and comparisons need it, serving does not."""

from typing import Any

from ml.architectures.network import State
from ml.errors import InvalidModel


def build(name: str, **options: Any) -> Any:
    """timm's network ``name`` without its head.

    Raises:
        InvalidModel: timm is not installed, or the weights cannot be downloaded.
    """
    try:
        import timm
    except ImportError as error:
        raise InvalidModel(
            "This network needs timm, which is not installed: see requirements/train.txt."
        ) from error
    return timm.create_model(name, num_classes=0, **options)


def download(name: str) -> State:
    """The weights that timm publishes for ``name``.

    Raises:
        InvalidModel: timm is not installed, or the weights cannot be downloaded.
    """
    try:
        state: State = build(name, pretrained=True).state_dict()
    # The offline error differs between versions of timm's download client.
    except (OSError, RuntimeError, ValueError) as error:
        raise InvalidModel(
            f"The weights of {name} cannot be downloaded; name a file to start from instead."
        ) from error
    return state
