"""Claims on Figure 1: where soft best-of-n lies in the plane of reward and KL divergence."""

from __future__ import annotations

import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

import bon_theory as bt
from paper_repro.papers.claim import DERIVED, Claim, Tolerance, printed
from paper_repro.papers.search import root
from paper_repro.papers.soft_best_of_n.laws import (
    BEST_CHECK,
    INEQUALITY,
    LAWS,
    SOFT_CHECK,
    TILT_CHECK,
    UNIFORM_CHECK,
    claim,
)

_FIGURE = "Figure 1"
_PLANES = ("eight outcomes", "uniform reward")
_NUMBERS = (2.0, 4.0, 16.0, 64.0)
_TEMPERATURES = (0.05, 0.1, 0.3, 1.0, 10.0)
_CASES = tuple((plane, n) for plane in _PLANES for n in _NUMBERS)
_LABELS = tuple(f"{plane}, n={n:g}" for plane, n in _CASES)

_NODES = Tolerance("quadrature of the uniform reward at λ ≥ 0.05, then bisection", absolute=1e-9)


@cache
def _reference(plane: str) -> bt.Policy:
    if plane == "uniform reward":
        return bt.Policy.uniform_reward()
    probs, rewards = LAWS[plane]
    return bt.Policy.from_probs(jnp.array(probs), jnp.array(rewards))


@jax.jit
def _curve(reference: bt.Policy, n: jax.Array, temperatures: jax.Array) -> dict[str, jax.Array]:
    """Reward, KL from π and KL to the tilt over temperatures, and the frontier at those KL."""

    def at(temperature: jax.Array) -> tuple[jax.Array, ...]:
        policy = bt.soft_best_of_n(reference, n, temperature)
        tilt = bt.exponential_tilt(reference, temperature)
        return (
            bt.expected_reward(policy),
            bt.kl_divergence(policy, reference),
            bt.kl_divergence(policy, tilt),
            bt.kl_divergence(tilt, policy),
        )

    reward, kl, kl_to_tilt, kl_from_tilt = jax.lax.map(at, temperatures)
    frontier = bt.frontier(reference, kl).value
    return {
        "reward": reward,
        "kl": kl,
        "kl_to_tilt": kl_to_tilt,
        "kl_from_tilt": kl_from_tilt,
        "frontier": frontier,
    }


@cache
def curve(plane: str, n: float) -> dict[str, NDArray[np.float64]]:
    """Soft best-of-n over the temperatures of the claims."""
    found = _curve(_reference(plane), jnp.asarray(n), jnp.array(_TEMPERATURES))
    return {name: np.asarray(values) for name, values in found.items()}


def _below_frontier() -> list[float]:
    """Smallest of frontier − reward over temperatures."""
    curves = [curve(*case) for case in _CASES]
    return [float((c["frontier"] - c["reward"]).min()) for c in curves]


def _beyond_regret() -> list[float]:
    """Largest of (frontier − reward) − λ·KL(P_n‖P*) over temperatures."""
    curves = [curve(*case) for case in _CASES]
    regret = np.array(_TEMPERATURES)
    return [float((c["frontier"] - c["reward"] - regret * c["kl_to_tilt"]).max()) for c in curves]


def _ends() -> list[float]:
    """Reward and KL of soft best-of-n on eight outcomes, nearly hard and nearly indifferent."""
    reference = _reference("eight outcomes")
    ends = []
    for n, temperature in ((4.0, 2e-3), (16.0, 2e-3), (16.0, 1e9)):
        found = _curve(reference, jnp.asarray(n), np.full(len(_TEMPERATURES), temperature))
        ends += [float(found["reward"][0]), float(found["kl"][0])]
    return ends


def _hard_plane(n: int) -> tuple[float, float]:
    """Reward and KL of best-of-n on eight outcomes, from F^n."""
    probs, rewards = (np.array(column) for column in LAWS["eight outcomes"])
    cdf = np.cumsum(probs)
    cdf[-1] = 1.0
    law = np.diff(cdf**n, prepend=0.0)
    return float(law @ rewards), float(law @ np.log(law / probs))


_UNIFORM = {
    (2.0, 0.1): (0.6538224071, 0.1575084027, 0.7648438),
    (8.0, 0.5): (0.6371698129, 0.1156902145, 2.786385e-3),
}


def _uniform_vectors() -> list[float]:
    values = []
    for n, temperature in _UNIFORM:
        temperatures = np.full(len(_TEMPERATURES), temperature)
        found = _curve(_reference("uniform reward"), jnp.asarray(n), temperatures)
        values += [float(found[name][0]) for name in ("reward", "kl", "kl_from_tilt")]
    return values


@jax.jit
def _soft_uniform(n: jax.Array, temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
    reference = bt.Policy.uniform_reward()
    policy = bt.soft_best_of_n(reference, n, temperature)
    return bt.expected_reward(policy), bt.kl_divergence(policy, reference)


def _advantage_over_hard(soft: float, hard: float) -> float:
    """Reward of soft best-of-``soft`` minus that of best-of-``hard``, at the KL of the latter."""
    kl = math.log(hard) - (hard - 1) / hard
    log_temperature = root(
        lambda s: float(_soft_uniform(soft, math.exp(s))[1]) - kl, math.log(0.03), 1.0
    )
    return float(_soft_uniform(soft, math.exp(log_temperature))[0]) - hard / (hard + 1)


CLAIMS: tuple[Claim, ...] = (
    claim(
        id="soft/figure-1-below-frontier",
        where="reward against KL",
        provenance=DERIVED,
        statement=(
            "Soft best-of-n lies between the reference and the frontier of the tilts: no reward "
            "above the largest at its KL divergence. Entries: smallest distance to the frontier "
            "over λ = 0.05 … 10."
        ),
        compute=_below_frontier,
        expected=(0.0,) * len(_CASES),
        kind="inequality",
        relation=">=",
        tolerance=_NODES,
        labels=_LABELS,
        figure="reward_frontier",
        test="bon_theory/test_frontier.py::test_no_selection_is_above_the_frontier",
        checked_by=(SOFT_CHECK, UNIFORM_CHECK, TILT_CHECK),
    ),
    claim(
        id="soft/figure-1-approach",
        where="reward against KL",
        provenance=DERIVED,
        statement=(
            "The curves approach the frontier as n grows: the distance at equal KL is at most "
            "λ·KL(P_n‖P*), which tends to 0 like 1/n². Entries: largest excess over that."
        ),
        compute=_beyond_regret,
        expected=(0.0,) * len(_CASES),
        kind="inequality",
        relation="<=",
        tolerance=_NODES,
        labels=_LABELS,
        figure="reward_frontier",
        test="bon_theory/test_rates.py::test_the_regret_is_temperature_times_kl_to_the_tilt",
        checked_by=(SOFT_CHECK, UNIFORM_CHECK, TILT_CHECK),
    ),
    claim(
        id="soft/figure-1-ends",
        kind="asymptotic",
        where="reward against KL",
        provenance=DERIVED,
        statement=(
            "At fixed n the curve runs from the reference (λ → ∞) to the dot of best-of-n (λ → 0); "
            "eight outcomes, λ = 0.002 and 1e9."
        ),
        compute=_ends,
        expected=(
            *_hard_plane(4),
            *_hard_plane(16),
            float(np.dot(*LAWS["eight outcomes"])),
            0.0,
        ),
        tolerance=Tolerance("first order in 1/λ = 1e-9 at the warm end", absolute=1e-9),
        labels=tuple(
            f"{end}, {axis}"
            for end in ("n=4 cold", "n=16 cold", "n=16 warm")
            for axis in ("reward", "KL")
        ),
        figure="reward_frontier",
        test="bon_theory/test_selection_exact.py::test_temperature_limits_are_the_hard_rule_and_the_reference",
        checked_by=(SOFT_CHECK, BEST_CHECK),
    ),
    claim(
        id="soft/uniform-reward",
        where="reward against KL",
        provenance=DERIVED,
        statement="Reference values of the plane for a reward uniform on (0, 1).",
        compute=_uniform_vectors,
        expected=tuple(value for values in _UNIFORM.values() for value in values),
        tolerance=printed(7),
        labels=tuple(
            f"n={n:g}, λ={t:g}, {name}"
            for n, t in _UNIFORM
            for name in ("reward", "KL(P‖π)", "KL(P*‖P)")
        ),
        figure="reward_frontier",
        test="bon_theory/test_theory_numbers.py::test_no_printed_digit_is_wrong",
        checked_by=(UNIFORM_CHECK,),
    ),
    claim(
        id="soft/soft-against-hard",
        where="reward against KL",
        provenance=DERIVED,
        statement=(
            "At equal KL a few more candidates chosen softly lose to fewer chosen hard: on a "
            "uniform reward best-of-8 beats soft best-of-10 but not soft best-of-16. Entries: "
            "reward of soft 10 minus hard 8, and of hard 8 minus soft 16."
        ),
        compute=lambda: [_advantage_over_hard(10.0, 8.0), -_advantage_over_hard(16.0, 8.0)],
        expected=(0.0, 0.0),
        kind="inequality",
        relation="<=",
        tolerance=INEQUALITY,
        labels=("10 against 8", "8 against 16"),
        figure="choosing",
        test="bon_theory/test_inequalities.py::test_one_more_soft_candidate_is_worse_than_best_of_n",
        checked_by=(UNIFORM_CHECK, "best_of_n(8) on uniform reward"),
    ),
)
