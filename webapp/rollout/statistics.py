"""Small statistics in plain Python: the web image has no SciPy."""

from math import comb, sqrt

_Z = 1.959963984540054  # of 95 %, two-sided


def wilson(hits: int, number: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927).

    Args:
        number: at least 1.
    """
    share = hits / number
    middle = share + _Z**2 / (2 * number)
    half = _Z * sqrt(share * (1 - share) / number + _Z**2 / (4 * number**2))
    scale = 1 + _Z**2 / number
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def fisher_greater(hits: int, number: int, other_hits: int, other_number: int) -> float:
    """Fisher's exact test, one-sided.

    Returns:
        The probability of ``hits`` or more among ``number``, if both groups were the same.
    """
    total, all_hits = number + other_number, hits + other_hits
    ways = sum(
        comb(all_hits, k) * comb(total - all_hits, number - k)
        for k in range(hits, min(number, all_hits) + 1)
    )
    return ways / comb(total, number)
