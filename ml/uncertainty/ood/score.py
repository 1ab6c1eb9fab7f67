"""Combine the picture rule and the feature distance into one out-of-distribution score."""

import numpy as np

# The weight of the features relative to the picture rule, and the limit of their sum. Both were
# chosen on all OOD pictures and on slices of unseen sources, so the figures of the held-out half
# are unbiased for the rule but not for this choice.
_FEATURES_WEIGHT = 2.0
_FAMILIAR = -0.3


def ood_score(*, against_head: float, feature_distance: float) -> float:
    """The out-of-distribution score of a slice, above 0; above 1 is unfamiliar.

    Evidence is summed: a picture that is slightly unlike a head and whose features are slightly
    unlike those of the training slices is out of distribution, while a brain from an unseen
    hospital is usually unusual for only one of the two.

    Args:
        against_head: :func:`ml.uncertainty.ood.evidence_against_head`.
        feature_distance: :meth:`ml.uncertainty.doubt.Doubt.feature_distance`.
    """
    return float(np.exp(against_head + _FEATURES_WEIGHT * feature_distance - _FAMILIAR))
