r"""How many prompts, and answers to each, make an interval as short as is wanted."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import scipy

from bon_theory.pools.curves import best_of_n_curve
from bon_theory.pools.pool import Pool
from bon_theory.pools.variance import jackknife_variance

__all__ = ["Advice", "advise"]


@dataclasses.dataclass(frozen=True)
class Advice:
    """What it takes for an interval of ± ``half_width``.

    Attributes:
        half_width: what is wanted.
        half_width_now: what the pool gives.
        prompts: as many, with as many answers each as now.
        prompts_at_least: as many even with unlimited answers: prompts differ.
        answers: to each of the present prompts; infinite where no number is enough.
    """

    half_width: float
    half_width_now: float
    prompts: int
    prompts_at_least: int
    answers: float


def advise(pool: Pool, half_width: float, *, n: int, level: float = 0.95) -> Advice:
    r"""Prompts and answers for a mean of best-of-n known to ± ``half_width``.

    The variance of the mean over B prompts is :math:`(\tau^2 + v/N)/B`, of prompts among each other
    and of a prompt's estimate from N answers, which falls like 1/N once N is well above n:

    .. math:: B = z^2 (\tau^2 + v/N)/x^2, \qquad N = \frac{v}{B x^2/z^2 - \tau^2}.

    Args:
        pool: at least two prompts, with more than n answers each, of equal weights.
        half_width: :math:`x > 0`, in units of the score.
        n: of best-of-n.
        level: of the interval.

    Raises:
        ValueError: ``half_width`` is not positive and finite, ``level`` is outside (0, 1), ``n`` is
            not below the shortest prompt's count, or there are fewer than two prompts.

    Example:
        >>> import numpy as np
        >>> import bon_theory as bt
        >>> pool = bt.pools.Pool.from_lists(np.random.default_rng(0).uniform(size=(50, 32)))
        >>> bt.pools.advise(pool, 0.005, n=4).prompts > 50
        True

    Standard (two-stage sampling); the answers' share is the jackknife's.
    """
    if not 0 < half_width < math.inf:
        raise ValueError(f"half_width must be positive and finite, got {half_width}.")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}.")
    if pool.num_prompts < 2:
        raise ValueError("advice on prompts needs at least 2 of them, got 1.")
    within = jackknife_variance(pool, n=n).per_prompt[:, 0]
    size = pool.num_prompts
    total = float(np.var(best_of_n_curve(pool, n=n).per_prompt[:, 0], ddof=1))
    between = max(total - float(within.mean()), 0.0)
    z = float(scipy.special.ndtri(0.5 + level / 2))
    t = float(scipy.special.stdtrit(size - 1, 0.5 + level / 2))
    allowed = (half_width / z) ** 2
    per_answer = float(np.mean(within * pool.counts))
    room = size * allowed - between
    return Advice(
        half_width=half_width,
        half_width_now=t * math.sqrt(total / size),
        prompts=max(2, math.ceil(total / allowed)),
        prompts_at_least=max(2, math.ceil(between / allowed)),
        answers=float(max(n, math.ceil(per_answer / room))) if room > 0 else math.inf,
    )
