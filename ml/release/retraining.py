"""From a snapshot and the model that serves to a candidate: weights, 8-bit integers and a card.

Every stage leaves its result in a folder of its own, in one piece; a rerun goes on after the last.
``OUT/model`` holds the candidate, ``OUT/label_issues.csv`` the labels that are likely wrong
(docs/decisions/0045).
"""

from pathlib import Path

from ml.release.full_retraining import retrain_layers
from ml.release.head_retraining import retrain_head
from ml.release.material import Order, read_material
from ml.release.progress import Progress


def retrain(order: Order, progress: Progress | None = None) -> Path:
    """Make a candidate, or go on with the retraining that was begun in its folder.

    Returns:
        The card of the candidate.

    Raises:
        InvalidManifest: the snapshot is damaged, or too little to learn from or to measure on.
        InvalidModel: the model is damaged, or cannot be retrained in this way.
        InvalidConfiguration: the folder holds another retraining.
        Cancelled: ``progress.cancelled`` said so.
    """
    material = read_material(order)
    ways = {"head": retrain_head, "full": retrain_layers}
    return ways[order.mode](material, progress or Progress())
