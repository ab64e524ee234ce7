"""Float32 within its error budgets, which ``docs/precision.md`` prints from this file.

Every public function is run in float32 and, on exactly the same input numbers, in float64. A budget
is about four times the largest error measured over ``LAWS``, rounded up. To write the table anew:
``python -m tests.bon_theory.test_float32``.
"""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bon_theory as bt

PAGE = Path(__file__).parents[2] / "docs" / "precision.md"
BATCH, K = 256, 16


class Budget(NamedTuple):
    """Largest allowed errors of a selected law in float32."""

    mass: float  # |sum P - 1|
    probability: float  # relative, of a probability above 1e-6


SELECTIONS = {
    "Policy.from_logits": Budget(mass=1e-6, probability=5e-6),
    "best_of_n": Budget(mass=5e-6, probability=2e-5),
    "worst_of_n": Budget(mass=5e-6, probability=2e-5),
    "best_of_poisson": Budget(mass=2e-6, probability=2e-5),
    "win_rate_optimal": Budget(mass=2e-6, probability=2e-5),
    "top_fraction": Budget(mass=5e-6, probability=1e-3),
    "best_of_n_stopped": Budget(mass=5e-6, probability=1e-3),
    "kth_best_of_n": Budget(mass=5e-6, probability=1e-3),
    "top_k_of_n": Budget(mass=5e-6, probability=1e-3),
    "soft_best_of_n": Budget(mass=5e-6, probability=2e-5),
    "soft_best_of_poisson": Budget(mass=2e-6, probability=2e-5),
    "exponential_race": Budget(mass=1e-5, probability=2e-5),
    "noisy_best_of_n": Budget(mass=5e-6, probability=2e-5),
    "exponential_tilt": Budget(mass=2e-6, probability=1e-5),
    "chi_squared_tilt": Budget(mass=1e-5, probability=5e-5),
}
# Errors relative to 1 + |value|, end to end: reference, selection and functional all in float32.
FUNCTIONALS = {
    "kl_divergence": 5e-6,
    "renyi_divergence": 5e-6,
    "chi_squared_divergence": 1e-5,
    "total_variation": 5e-6,
    "squared_hellinger": 5e-6,
    "jensen_shannon": 5e-6,
    "hockey_stick_divergence": 5e-6,
    "f_divergence": 5e-6,
    "expected_reward": 5e-6,
    "expected_value": 5e-6,
    "win_rate": 5e-6,
}
# Derivatives of the KL divergence end to end, relative to 1 + |value|, n up to 1000.
GRADIENTS = {
    "best_of_n in logits": 1e-5,
    "best_of_n in n": 1e-6,
    "soft_best_of_n in logits": 1e-5,
    "soft_best_of_n in n": 1e-6,
    "soft_best_of_n in temperature": 2e-3,
}
TV = ("total_variation", "hockey_stick_divergence")  # kinks, which see every error of the law
CONTINUOUS = {
    "best_of_n: total variation": 1e-6,
    "best_of_n: others": 1e-6,
    "soft_best_of_n: total variation": 1e-4,  # its distribution function is a Fourier sum
    "soft_best_of_n: others": 1e-6,
}
SCALE = {
    "best_of_n, K = 10⁷, n = 64: mass": 1e-5,
    "best_of_n, K = 10⁷, n = 64: KL (absolute)": 1e-4,
    "soft_best_of_n, K = 10⁶, n = 64: mass": 1e-5,
    "soft_best_of_n, K = 10⁶, n = 64: KL (absolute)": 1e-4,
}


def table() -> str:
    """The budgets in Markdown."""
    lines = ["| law | mass: \\|ΣP − 1\\| | a probability above 1e-6 (relative) |", "|---|---|---|"]
    lines += [
        f"| `{name}` | {b.mass:.0e} | {b.probability:.0e} |" for name, b in SELECTIONS.items()
    ]
    lines += ["", "| number | error over 1 + \\|value\\| |", "|---|---|"]
    lines += [f"| `{name}` | {budget:.0e} |" for name, budget in FUNCTIONALS.items()]
    lines += ["", "| derivative of KL, n ≤ 1000 | error over 1 + \\|value\\| |", "|---|---|"]
    lines += [f"| {name} | {budget:.0e} |" for name, budget in GRADIENTS.items()]
    lines += ["", "| continuous laws, n = 64 | error over 1 + \\|value\\| |", "|---|---|"]
    lines += [f"| {name} | {budget:.0e} |" for name, budget in CONTINUOUS.items()]
    lines += ["", "| at scale | error |", "|---|---|"]
    lines += [f"| {name} | {budget:.0e} |" for name, budget in SCALE.items()]
    return "\n".join(lines)


# --- the laws: 256 of 16 outcomes; a third with ties, and tiny, vanishing or impossible o


def _laws() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(11)
    quarter = BATCH // 4
    logits = np.log(rng.dirichlet(np.full(K, 0.3), size=BATCH).clip(1e-30))
    logits[quarter : 2 * quarter, ::3] = np.log(1e-12)
    logits[2 * quarter : 3 * quarter, ::4] = -200.0
    logits[3 * quarter :, ::5] = -np.inf
    rewards = rng.random((BATCH, K))
    rewards[::3] = np.round(rewards[::3] * 4) / 4

    def log_uniform(low: float, high: float) -> np.ndarray:
        return 10 ** rng.uniform(low, high, BATCH)

    n = log_uniform(0, 6)
    n[::8], n[1::8] = 1, 2
    law = {"logits": logits, "rewards": rewards, "values": rng.normal(size=(BATCH, K))}
    parameters = {
        "n": n,
        "temperature": log_uniform(-2, 2),
        "mean_extra_draws": log_uniform(-2, 3),
        "fraction": log_uniform(-4, 0),
        "strength": log_uniform(-2, 1),
        "threshold": rng.random(BATCH),
        "place": n ** rng.random(BATCH),
    }
    return law, parameters


LAWS, VALUES = _laws()
PARAMETERS = {
    "best_of_n": ("n",),
    "worst_of_n": ("n",),
    "best_of_poisson": ("mean_extra_draws",),
    "win_rate_optimal": ("mean_extra_draws",),
    "top_fraction": ("fraction",),
    "best_of_n_stopped": ("threshold", "n"),
    "kth_best_of_n": ("n", "place"),
    "top_k_of_n": ("n", "place"),
    "soft_best_of_n": ("n", "temperature"),
    "soft_best_of_poisson": ("mean_extra_draws", "temperature"),
    "exponential_race": ("n", "temperature"),
    "noisy_best_of_n": ("n", "temperature"),
    "exponential_tilt": ("temperature",),
    "chi_squared_tilt": ("strength",),
}


def single(array: np.ndarray, dtype: Any) -> jax.Array:
    """The float32 numbers nearest to ``array`` as ``dtype``: both get the same input."""
    return jnp.asarray(array.astype(np.float32), dtype)


@functools.cache
def selected(name: str, dtype: Any) -> bt.Policy:
    """All laws after a selection, computed in ``dtype`` throughout."""
    if name == "Policy.from_logits":
        return jax.jit(bt.Policy.from_logits)(
            *(single(LAWS[x], dtype) for x in ("logits", "rewards"))
        )
    reference = selected("Policy.from_logits", dtype)
    parameters = [single(VALUES[x], dtype) for x in PARAMETERS[name]]
    return jax.jit(getattr(bt, name))(reference, *parameters)


@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=pytest.mark.slow) if x == "noisy_best_of_n" else x for x in SELECTIONS],
)
def test_selections_keep_their_budget(name: str) -> None:
    law, exact = selected(name, np.float32), selected(name, np.float64)
    assert law.dtype == jnp.float32
    log_probs, exact_log_probs = np.asarray(law.log_probs, float), np.asarray(exact.log_probs)
    mass = np.exp(log_probs).sum(axis=-1)
    assert np.abs(mass - 1).max() <= SELECTIONS[name].mass
    counts = exact_log_probs > np.log(1e-6)
    ratio = np.exp(log_probs[counts] - exact_log_probs[counts])
    assert np.abs(ratio - 1).max() <= SELECTIONS[name].probability


@jax.jit
def functionals(policy: bt.Policy, reference: bt.Policy, values: jax.Array) -> dict[str, jax.Array]:
    def symmetric(t: jax.Array) -> jax.Array:
        return (t - 1) ** 2 / (t + 1)

    two = ("kl_divergence", "chi_squared_divergence", "total_variation", "squared_hellinger")
    return {
        **{name: getattr(bt, name)(policy, reference) for name in (*two, "jensen_shannon")},
        "renyi_divergence": bt.renyi_divergence(policy, reference, 0.5),
        "hockey_stick_divergence": bt.hockey_stick_divergence(policy, reference, 2.0),
        "f_divergence": bt.f_divergence(policy, reference, symmetric),
        "expected_reward": bt.expected_reward(policy),
        "expected_value": bt.expected_value(policy, values),
        "win_rate": bt.win_rate(policy, reference),
    }


@functools.cache
def numbers(selection: str, dtype: Any) -> dict[str, np.ndarray]:
    laws = (selected(name, dtype) for name in (selection, "Policy.from_logits"))
    results = functionals(*laws, single(LAWS["values"], dtype))
    assert {result.dtype for result in results.values()} == {jnp.dtype(dtype)}
    return {name: np.asarray(result, float) for name, result in results.items()}


@pytest.mark.parametrize("name", FUNCTIONALS)
@pytest.mark.parametrize("selection", ["best_of_n", "soft_best_of_n", "exponential_tilt"])
def test_numbers_keep_their_budget(name: str, selection: str) -> None:
    value, exact = (numbers(selection, dtype)[name] for dtype in (np.float32, np.float64))
    representable = exact < 1e30  # χ² is a square: it may exceed what float32 holds
    error = np.abs(value - exact) / (1 + np.abs(exact))
    assert error[representable].max() <= FUNCTIONALS[name]
    assert representable.mean() > 0.7


def test_small_divergences_keep_their_relative_accuracy() -> None:
    """Near n = 1 the KL is ½ (n-1)² Var(log F) ≈ 1e-8, which float32 sees as well as 1."""
    values = []
    for dtype in (np.float32, np.float64):
        reference = selected("Policy.from_logits", dtype)
        nearly = jax.jit(bt.best_of_n)(reference, single(np.asarray(1 + 2.0**-12), dtype))
        values.append(np.asarray(jax.jit(bt.kl_divergence)(nearly, reference), float))
    assert values[1].max() < 1e-6
    np.testing.assert_allclose(values[0], values[1], rtol=2e-3, atol=1e-14)


def test_the_certificate_is_honest_and_small() -> None:
    reference = selected("Policy.from_logits", np.float32)
    n, temperature = (single(VALUES[x], np.float32) for x in ("n", "temperature"))
    soft: Any = jax.jit(bt.soft_best_of_n)
    policy = soft(reference, n, temperature)
    certificate = bt.certificate(policy)
    missing = np.abs(np.exp(np.asarray(policy.log_probs, float)).sum(axis=-1) - 1)
    # Summing 16 numbers in float32 rounds by at most 16 · 6e-8.
    assert np.all(np.asarray(certificate) >= missing - 1e-6)
    assert certificate.max() <= SELECTIONS["soft_best_of_n"].mass


@functools.cache
def gradients(dtype: Any) -> dict[str, np.ndarray]:
    def divergences(
        logits: jax.Array, n: jax.Array, temperature: jax.Array
    ) -> dict[str, jax.Array]:
        reference = bt.Policy.from_logits(logits, single(LAWS["rewards"], dtype))
        laws = {
            "best_of_n": bt.best_of_n(reference, n),
            "soft_best_of_n": bt.soft_best_of_n(reference, n, temperature),
        }
        return {name: bt.kl_divergence(law, reference).sum() for name, law in laws.items()}

    arguments = LAWS["logits"], np.minimum(VALUES["n"], 1000), VALUES["temperature"]
    at = [single(argument, dtype) for argument in arguments]
    slopes: Any = jax.jit(jax.jacrev(divergences, argnums=(0, 1, 2)))(*at)
    return {
        f"{selection} in {argument}": np.asarray(slope, float)
        for selection, by_argument in slopes.items()
        for argument, slope in zip(("logits", "n", "temperature"), by_argument, strict=True)
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", GRADIENTS)
def test_derivatives_keep_their_budget(name: str) -> None:
    value, exact = (gradients(dtype)[name] for dtype in (np.float32, np.float64))
    assert np.isfinite(exact).all()
    assert np.max(np.abs(value - exact) / (1 + np.abs(exact))) <= GRADIENTS[name]


@jax.jit
def on_nodes(reference: bt.Policy) -> dict[str, dict[str, jax.Array]]:
    laws = {
        "best_of_n": bt.best_of_n(reference, 64.0),
        "soft_best_of_n": bt.soft_best_of_n(reference, 64.0, 1.0),
    }
    return {name: functionals(law, reference, reference.rewards) for name, law in laws.items()}


@pytest.mark.parametrize("law", ["uniform_reward", "gaussian_reward", "exponential_reward"])
def test_continuous_laws_keep_their_budget(law: str) -> None:
    """Without x64, which is JAX's default, they are made in float32."""
    make = getattr(bt.Policy, law)
    exact = on_nodes(make())
    with jax.enable_x64(False):
        reference = make()
        single_precision = on_nodes(reference)
    assert reference.dtype == jnp.float32
    for selection, values in single_precision.items():
        for name, value in values.items():
            expected = float(exact[selection][name])
            budget = CONTINUOUS[f"{selection}: {'total variation' if name in TV else 'others'}"]
            assert abs(float(value) - expected) <= budget * (1 + abs(expected)), (selection, name)


# --- at scale ---------------------------------------------------------------------------


def large_law(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Unequal probabilities; the rewards 0, 1, … size - 1, scrambled (exact in float32)."""
    rng = np.random.default_rng(3)
    probs = rng.random(size, dtype=np.float32)
    rewards = (np.arange(size) * 7919) % size
    return probs / np.float32(probs.sum(dtype=np.float64)), rewards.astype(np.float32)


@pytest.mark.slow
def test_ten_million_outcomes() -> None:
    size, n = 10_000_000, 64
    probs, rewards = large_law(size)
    reference = bt.Policy.from_probs(probs, rewards)
    policy = jax.jit(bt.best_of_n)(reference, jnp.float32(n))
    mass = np.exp(np.asarray(policy.log_probs, float)).sum()
    kl = float(bt.kl_divergence(policy, reference))
    # The same sum in float64: F^n - F_-^n loses 1e-16 of 1e-7 per outcome.
    exact = probs[np.argsort(rewards)].astype(float)
    exact /= exact.sum()
    selected = np.diff(np.cumsum(exact) ** n, prepend=0.0)
    positive = selected > 0
    expected = np.sum(selected[positive] * np.log(selected[positive] / exact[positive]))
    assert abs(mass - 1) <= SCALE["best_of_n, K = 10⁷, n = 64: mass"]
    assert abs(kl - expected) <= SCALE["best_of_n, K = 10⁷, n = 64: KL (absolute)"]


@pytest.mark.slow
def test_a_million_soft_outcomes() -> None:
    """Equal outcomes on a grid: the law of the uniform reward, but for 1/K² = 1e-12."""
    size, n, temperature = 1_000_000, 64, 0.1
    middles = ((np.arange(size) * 7919) % size + 0.5) / size
    reference = jax.jit(bt.Policy.from_samples)(middles.astype(np.float32))
    policy = jax.jit(bt.soft_best_of_n)(reference, jnp.float32(n), jnp.float32(temperature))
    uniform = bt.Policy.uniform_reward()
    expected = bt.kl_divergence(jax.jit(bt.soft_best_of_n)(uniform, n, temperature), uniform)
    mass = np.exp(np.asarray(policy.log_probs, float)).sum()
    assert abs(mass - 1) <= SCALE["soft_best_of_n, K = 10⁶, n = 64: mass"]
    error = abs(float(bt.kl_divergence(policy, reference)) - float(expected))
    assert error <= SCALE["soft_best_of_n, K = 10⁶, n = 64: KL (absolute)"]


def test_a_million_candidates_find_a_tiny_atom() -> None:
    # An atom of 1e-12 on top is found by 1e6 draws with probability 1e-6 (1 - 5e-7).
    reference = bt.Policy.from_probs(
        np.array([0.5, 0.5, 1e-12], np.float32), np.array([0.0, 1.0, 2.0], np.float32)
    )
    assert reference.dtype == jnp.float32
    for policy in (bt.best_of_n(reference, 1e6), bt.soft_best_of_n(reference, 1e6, 1e-3)):
        assert float(policy.probs[2]) == pytest.approx(1e-6, rel=1e-5)


# --- the page ---------------------------------------------------------------------------

MARK = "<!-- written by tests/bon_theory/test_float32.py -->"


def test_the_page_prints_these_budgets() -> None:
    _, printed, _ = PAGE.read_text(encoding="utf-8").split(MARK)
    assert printed.strip() == table()


def test_every_law_and_number_has_a_budget() -> None:
    floors = ("selection", "divergences", "performance")  # what stands above them is tested there
    functions = {name: getattr(bt, name).__module__.split(".")[1:2] for name in bt.__all__}
    public = {name for name, floor in functions.items() if floor and floor[0] in floors}
    public -= {"log_ratio"}
    assert public == (SELECTIONS.keys() | FUNCTIONALS.keys()) - {"Policy.from_logits"}


if __name__ == "__main__":
    before, _, after = PAGE.read_text(encoding="utf-8").split(MARK)
    PAGE.write_text(f"{before}{MARK}\n{table()}\n{MARK}{after}", encoding="utf-8")
