r"""Converged BoNBoN over its SFT weight: one vectorised sweep beside an optimiser per weight.

The peer is what one would do without the theory: SciPy's L-BFGS on the exact loss over equally
likely levels of reward, with its gradient, from the reference. Both are told the exact law of
pairs; what judges them is the largest component of the gradient that is left.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

import bon_theory as bt
from benchmarks import measure
from bon_theory import alignment

SENTENCE = (
    "a sweep of 64 SFT weights at n = 8 on 64 levels of reward is at least 20 times faster than "
    "SciPy's L-BFGS, and nearer to the minimum"
)
N = 8


def objective(logits: np.ndarray, joint: np.ndarray, margin: float, weight: float) -> Any:
    """BoNBoN's loss and its gradient in logits, equally likely levels as the reference."""
    residual = logits[:, None] - logits[None, :] - margin
    log_z = np.logaddexp.reduce(logits)
    value = weight * (log_z - joint.sum(1) @ logits) + (1 - weight) * np.sum(joint * residual**2)
    pull = 2 * joint * residual
    contrast = pull.sum(1) - pull.sum(0)
    slope = weight * (np.exp(logits - log_z) - joint.sum(1)) + (1 - weight) * contrast
    return value, slope


def fit(joint: np.ndarray, margin: float, weight: float) -> np.ndarray:
    """Probabilities of the minimiser, by L-BFGS to its tightest tolerance."""
    found = optimize.minimize(
        objective,
        np.zeros(len(joint)),
        (joint, margin, weight),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 100_000, "maxfun": 100_000, "ftol": 0.0, "gtol": 1e-12, "maxcor": 30},
    )
    return np.exp(found.x - np.logaddexp.reduce(found.x))


def slopes(probs: np.ndarray, joint: np.ndarray, margin: float, weights: np.ndarray) -> float:
    """The largest component of the gradient at the solutions ``probs [weights, levels]``."""
    pairs = zip(np.log(probs), weights, strict=True)
    return max(float(np.max(np.abs(objective(p, joint, margin, w)[1]))) for p, w in pairs)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print, and write."""
    chosen = measure.options(SENTENCE, arguments)
    jax.config.update("jax_enable_x64", True)
    levels, num_weights = (16, 4) if chosen.quick else (64, 64)
    weights = np.linspace(0.0, 0.99, num_weights)
    reference = bt.Policy.from_samples(jnp.arange(float(levels)))
    joint = np.asarray(alignment.best_and_worst_probs(reference, n=N))
    margin = 0.5 / float(alignment.best_of_n_beta(N))
    sweep = jax.jit(lambda weights: alignment.bonbon(reference, n=N, sft_weight=weights).probs)

    def exact() -> np.ndarray:
        return np.asarray(sweep(jnp.asarray(weights)))

    def scipy() -> np.ndarray:
        return np.stack([fit(joint, margin, weight) for weight in weights])

    first_call = measure.seconds(exact, repeats=1)
    continuous = bt.Policy.uniform_reward(num_nodes=641, breaks=(0.5,))
    on_nodes = jax.jit(
        lambda weights: alignment.bonbon(continuous, n=N, sft_weight=weights).log_probs
    )
    jax.block_until_ready(on_nodes(jnp.asarray(weights)))
    rows: dict[str, dict[str, float]] = {
        "bon_theory": {
            "seconds": measure.seconds(exact, repeats=chosen.repeats),
            "first_call_s": first_call,
            "largest_slope": slopes(exact(), joint, margin, weights),
        },
        "bon_theory, tie-free reward": {
            "seconds": measure.seconds(
                lambda: jax.block_until_ready(on_nodes(jnp.asarray(weights))),
                repeats=chosen.repeats,
            ),
        },
        "scipy": {
            "seconds": measure.seconds(scipy, repeats=1),
            "largest_slope": slopes(scipy(), joint, margin, weights),
        },
    }
    ratio = rows["scipy"]["seconds"] / rows["bon_theory"]["seconds"]
    nearer = rows["bon_theory"]["largest_slope"] < rows["scipy"]["largest_slope"]
    holds = {"20 times faster": ratio > 20, "nearer to the minimum": nearer}
    results = {"levels": levels, "weights": num_weights, "ratio": ratio, "methods": rows}
    return measure.publish("alignment_sweep", SENTENCE, holds, results, chosen)


if __name__ == "__main__":
    main()
