"""When a model counts as able to do a task: the lower end of the exact interval of its accuracy reaches a bar."""

import math

CONFIDENCE = 0.95


def fewest_samples(bar: float, *, confidence: float = CONFIDENCE) -> int:
    """The fewest samples of which all may be solved and the interval reach the bar, above 0 and below 1.

    The lower end of the interval of n of n (Clopper and Pearson, 1934) is ((1 - confidence) / 2)^(1/n).

    >>> fewest_samples(0.5), fewest_samples(0.9)
    (6, 36)
    """
    return math.ceil(math.log((1 - confidence) / 2) / math.log(bar))
