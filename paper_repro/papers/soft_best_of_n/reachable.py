"""Claims on what any rule of n draws can do, beside which soft best-of-n is to be seen."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray
from scipy import special

import bon_theory as bt
from paper_repro.papers.claim import DERIVED, Claim, Tolerance
from paper_repro.papers.soft_best_of_n.laws import SOFT_CHECK, UNIFORM_CHECK, claim

_NEAREST_CHECK = "nearest_reachable(8, 0.4) on tied rewards"
_FIVE_DRAWS_CHECK = "nearest_reachable(5, 0.25) on uniform reward"
_TEST = "bon_theory/test_reachable.py::"
_TEMPERATURES = (0.25, 0.1)


@jax.jit
def _uniform(n: Array, temperature: Array) -> Array:
    """Draws for exactness, and KL from the tilt of soft best-of-n and of the best rule."""
    reference = bt.Policy.uniform_reward()
    tilt = bt.exponential_tilt(reference, temperature)
    soft = bt.soft_best_of_n(reference, n, temperature)
    best = bt.nearest_reachable(tilt, reference, n)
    return jnp.stack(
        [
            bt.draws_for_exact(tilt, reference),
            bt.kl_divergence(soft, tilt),
            bt.kl_divergence(best, tilt),
        ]
    )


def _exact_draws() -> list[float]:
    return [float(_uniform(jnp.asarray(5.0), jnp.asarray(t))[0]) for t in _TEMPERATURES]


def _five_draws() -> NDArray[np.float64]:
    return np.asarray(_uniform(jnp.asarray(5.0), jnp.asarray(0.25)))[1:]


@jax.jit
def _coins(reference: bt.Policy, n: Array) -> Array:
    """Draws for exactness, and total variation to the tilt at λ = ½ of both rules at each n."""
    tilt = bt.exponential_tilt(reference, 0.5)
    laws = bt.soft_best_of_n(reference, n, 0.5), bt.nearest_reachable(tilt, reference, n)
    soft, best = (bt.total_variation(law, tilt) for law in laws)
    exact = bt.draws_for_exact(tilt, reference)
    return jnp.concatenate([exact[None], soft, best])


def _eight_coins() -> NDArray[np.float64]:
    heads = np.arange(9)
    reference = bt.Policy.from_logits(np.log(special.comb(8, heads)), heads)
    return np.asarray(_coins(reference, jnp.array([64.0, 256.0])))


CLAIMS: tuple[Claim, ...] = (
    claim(
        id="soft/draws-for-the-tilt",
        where="the best rule of n draws",
        provenance=DERIVED,
        statement=(
            "One of n draws can have the law of the tilt exactly, by some rule, from n* = "
            "1/(λ(1 − e^(−1/λ))) draws of a uniform reward on: 4.07 at λ = ¼."
        ),
        compute=_exact_draws,
        expected=tuple(1 / (t * -math.expm1(-1 / t)) for t in _TEMPERATURES),
        tolerance=Tolerance("the largest of quotients of logarithms in float64", relative=1e-12),
        labels=tuple(f"λ={t:g}" for t in _TEMPERATURES),
        figure="reachable",
        test=f"{_TEST}test_draws_for_exact_is_what_bisection_over_all_sets_finds",
        checked_by=(_NEAREST_CHECK,),
    ),
    claim(
        id="soft/five-draws",
        where="the best rule of n draws",
        provenance=DERIVED,
        statement=(
            "Five draws sample the tilt of a uniform reward at λ = ¼ exactly; soft best-of-n with "
            "five is .036 nats away from it: KL(P‖P*)."
        ),
        compute=_five_draws,
        expected=(0.03634, 0.0),
        tolerance=Tolerance("stated to 4 digits; 0 to rounding", absolute=1e-12, relative=5e-4),
        labels=("soft best-of-5", "the best rule"),
        figure="reachable",
        test=f"{_TEST}test_five_draws_sample_the_tilt_of_a_uniform_reward_at_a_quarter",
        checked_by=(_FIVE_DRAWS_CHECK, UNIFORM_CHECK),
    ),
    claim(
        id="soft/any-rule-on-sequences",
        where="theorem on blockwise sampling",
        provenance=DERIVED,
        statement=(
            "Of whole sequences of 8 coins, λ = ½, no rule of fewer than 115 draws has the "
            "optimum's law. Entries: n*, then total variation of soft best-of-n and of the best "
            "rule for n = 64 and 256."
        ),
        compute=_eight_coins,
        expected=(114.93, 0.2020, 0.0747, 0.1407, 0.0),
        tolerance=Tolerance("stated to 3 or 4 digits", absolute=5e-5, relative=5e-4),
        labels=("n*", "soft, n=64", "soft, n=256", "best, n=64", "best, n=256"),
        figure="reachable",
        test=f"{_TEST}test_the_numbers_of_coins_in_whole_sequences",
        checked_by=(_NEAREST_CHECK, SOFT_CHECK),
    ),
)
