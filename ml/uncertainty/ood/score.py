"""One out-of-distribution score of what the picture and what its features say."""

import numpy as np

# The weight of the features beside the rule about the picture, and how much of both together is
# still familiar; chosen on OOD pictures of both halves and on slices of unseen sources, so
# that the figures of the held-out half are clean for the rule alone and not for this choice.
_FEATURES_WEIGHT = 2.0
_FAMILIAR = -0.3


def ood_score(*, against_head: float, feature_distance: float) -> float:
    """The out-of-distribution score of a slice, above 0; above 1 is unfamiliar.

    Evidence adds up: a picture that is a little unlike a head, with features a little unlike
    those of the training slices, is out of distribution, while a brain of an unseen hospital
    mostly looks strange to only one of the two.

    Args:
        against_head: :func:`ml.uncertainty.ood.evidence_against_head`.
        feature_distance: :meth:`ml.uncertainty.doubt.Doubt.feature_distance`.
    """
    return float(np.exp(against_head + _FEATURES_WEIGHT * feature_distance - _FAMILIAR))
