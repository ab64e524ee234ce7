r"""The margin of a best-and-worst pair, :math:`h(y_{(n)}) - h(y_{(1)})` with :math:`h` a log ratio.

At best-of-n it has mean :math:`(n-1)\sum_{k<n} 1/k`, from which IPO-BoN takes its
:math:`\beta^*_n`, and variance :math:`(n-1)^2\sum_{k<n} 1/k^2`, because of which it misses.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bon_theory._arguments import Numbers
from bon_theory.alignment.pairs import number_of_candidates
from bon_theory.divergences import log_ratio
from bon_theory.performance import expected_value
from bon_theory.policy import Policy
from bon_theory.selection import best_of_n, worst_of_n

__all__ = ["best_of_n_beta", "mean_margin"]


def best_of_n_beta(n: Numbers) -> jax.Array:
    r"""The regularisation of IPO-BoN, :math:`\beta^*_n = 1/\bigl(2(n-1)\sum_{k=1}^{n-1}1/k\bigr)`.

    The harmonic number is :math:`\psi(n) + \gamma`.

    Args:
        n: number of candidates, an integer of at least 2, or an array of such.

    Raises:
        ValueError: ``n`` is less than 2 or no integer.

    Example:
        >>> import bon_theory as bt
        >>> round(float(bt.alignment.best_of_n_beta(8)), 6)
        0.027548

    [G] §4.
    """
    count = number_of_candidates(n, jnp.result_type(float))
    harmonic = jax.scipy.special.digamma(count) + jnp.euler_gamma
    return 0.5 / ((count - 1) * harmonic)


def mean_margin(policy: Policy, reference: Policy, *, n: Numbers) -> jax.Array:
    r"""The mean margin :math:`E[\ell(y_{(n)}) - \ell(y_{(1)})]` of :math:`\ell = \log P/\pi`.

    .. math:: \sum_y (P_{\text{best}}(y) - P_{\text{worst}}(y))\,\log\frac{P(y)}{\pi(y)}

    For best-of-n without ties it is :math:`(n-1)\sum_{k<n}1/k`. With ties it is smaller: ranks are
    then seen only through the atoms.

    Args:
        policy: :math:`P`, on the reference's outcomes.
        reference: the law of one draw, and of the candidates.
        n: number of candidates, an integer of at least 2.

    Raises:
        ValueError: ``n`` is less than 2 or no integer, or the policies are not on the same
            outcomes.

    Example:
        >>> import jax.numpy as jnp
        >>> import bon_theory as bt
        >>> levels = bt.Policy.from_samples(jnp.arange(10.0))
        >>> round(float(bt.alignment.mean_margin(bt.best_of_n(levels, 8), levels, n=8)), 4)
        14.2083

    [G] §4 without ties; derived here with ties.
    """
    ratio = log_ratio(policy, reference)
    count = number_of_candidates(n, reference.dtype)
    best, worst = best_of_n(reference, count), worst_of_n(reference, count)
    return expected_value(best, ratio) - expected_value(worst, ratio)
