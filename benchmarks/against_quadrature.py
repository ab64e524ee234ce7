r"""Continuous rewards: time and accuracy per value, against general quadrature.

Three quantities that have no shorter route than an integral, or whose closed form checks it:

* the KL divergence of best-of-n without ties, :math:`\log n - (n-1)/n`;
* the expected best of n standard normal rewards, :math:`\int x\,n\,\phi(x)\,\Phi(x)^{n-1} dx`,
  against 30-digit quadrature;
* the KL divergence of soft best-of-n, an integral of integrals, against the committed 32-digit
  values in ``tests/golden/soft_continuous.json``.

``scipy`` is ``scipy.integrate.quad`` with an error target of 1e-12, written as a user would, with a
breakpoint beside the peak (without it both routines miss the peak at large n and report success);
``quadax`` is ``quadax.quadgk``, compiled and mapped over the values.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import quadax
import scipy.integrate
import scipy.special
import scipy.stats

import bon_theory as bt
from benchmarks import measure

SENTENCE = (
    "on continuous rewards a value costs less than by SciPy's or quadax's quadrature and is at "
    "least as accurate"
)
GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "soft_continuous.json"

mp: Any = mpmath  # its functions are typed as returning unions


def compared(
    methods: dict[str, Callable[[], Any]], exact: np.ndarray, repeats: int
) -> dict[str, Any]:
    """Per method: first call, seconds per value, and the largest relative error."""
    rows = {}
    for name, method in methods.items():
        start = time.perf_counter()
        values = np.asarray(method())
        first = time.perf_counter() - start
        rows[name] = {
            "first_call_s": first,
            "seconds_per_value": measure.seconds(
                lambda method=method: np.asarray(method()), repeats=repeats
            )
            / len(exact),
            "largest_relative_error": float(np.max(np.abs(values / exact - 1))),
        }
    return {"num_values": len(exact)} | rows


def best_of_n_kl(ns: np.ndarray, repeats: int) -> dict[str, Any]:
    """KL(best-of-n ‖ reference) of any tie-free reward."""
    uniform = bt.Policy.uniform_reward()

    @jax.jit
    def ours(ns: jax.Array) -> jax.Array:
        return jax.vmap(lambda n: bt.kl_divergence(bt.best_of_n(uniform, n), uniform))(ns)

    def integrand(u: Any, n: Any, log: Any) -> Any:
        return n * u ** (n - 1) * (log(n) + (n - 1) * log(u))

    def by_scipy() -> list[float]:
        options: dict[str, Any] = {"epsabs": 1e-12, "epsrel": 1e-12, "limit": 200}
        return [
            scipy.integrate.quad(
                integrand, 0, 1, args=(n, np.log), points=[1 - min(0.5, 40 / n)], **options
            )[0]
            for n in ns
        ]

    @jax.jit
    def by_quadax(ns: jax.Array) -> jax.Array:
        def one(n: jax.Array) -> jax.Array:
            edges = jnp.stack([jnp.zeros(()), 1 - jnp.minimum(0.5, 40 / n), jnp.ones(())])
            return quadax.quadgk(
                lambda u: integrand(u, n, jnp.log), edges, epsabs=1e-12, epsrel=1e-12
            )[0]

        return jax.vmap(one)(ns)

    exact = np.array([float(mp.log(n) - (n - 1) / mp.mpf(n)) for n in ns])
    methods = {
        "bon_theory": lambda: ours(jnp.asarray(ns)),
        "scipy": by_scipy,
        "quadax": lambda: by_quadax(jnp.asarray(ns)),
    }
    return compared(methods, exact, repeats)


def expected_best_normal(ns: np.ndarray, repeats: int) -> dict[str, Any]:
    """Expected reward of best-of-n under a standard normal reward."""
    gaussian = bt.Policy.gaussian_reward()

    @jax.jit
    def ours(ns: jax.Array) -> jax.Array:
        return jax.vmap(lambda n: bt.expected_reward(bt.best_of_n(gaussian, n)))(ns)

    def by_scipy() -> list[float]:
        normal = scipy.stats.norm
        return [
            scipy.integrate.quad(
                lambda x, n=n: x * n * np.exp(normal.logpdf(x) + (n - 1) * normal.logcdf(x)),
                -12,
                12,
                points=[normal.isf(1 / (n + 1))],
                epsabs=1e-12,
                epsrel=1e-12,
                limit=200,
            )[0]
            for n in ns
        ]

    def by_mpmath(n: float) -> float:
        def integrand(x: Any) -> Any:
            return x * n * mp.npdf(x) * mp.ncdf(x) ** (mp.mpf(n) - 1)

        with mp.workdps(30):
            return float(mp.quad(integrand, [-12, -4, 0, 2, 4, 6, 8, 14]))

    exact = np.array([by_mpmath(n) for n in ns])
    methods = {"bon_theory": lambda: ours(jnp.asarray(ns)), "scipy": by_scipy}
    return compared(methods, exact, repeats)


def soft_best_of_n_kl(count: int, repeats: int) -> dict[str, Any]:
    """KL(soft best-of-n ‖ reference) for a uniform reward, at temperatures of at least 0.1."""
    cases = json.loads(GOLDEN.read_text())
    cases = [
        c for c in cases if c["reward"] == "uniform" and c["temperature"] >= 0.1 and c["n"] > 1
    ]
    cases = cases[:count]
    ns = np.array([c["n"] for c in cases], float)
    temperatures = np.array([c["temperature"] for c in cases], float)
    uniform = bt.Policy.uniform_reward()

    @jax.jit
    def ours(ns: jax.Array, temperatures: jax.Array) -> jax.Array:
        def one(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
            return bt.kl_divergence(bt.soft_best_of_n(uniform, *pair), uniform)

        return jax.lax.map(one, (ns, temperatures))

    def by_scipy() -> list[float]:
        return [_soft_kl_by_nested_quad(n, t) for n, t in zip(ns, temperatures, strict=True)]

    exact = np.array([float(c["kl"]) for c in cases])
    methods = {
        "bon_theory": lambda: ours(jnp.asarray(ns), jnp.asarray(temperatures)),
        "scipy": by_scipy,
    }
    return compared(methods, exact, repeats)


def _soft_kl_by_nested_quad(n: float, temperature: float) -> float:
    """∫ h log h with h(u) = ∫ n w e^{-tw} M(t)^{n-1} dt, M through exponential integrals."""
    exp1 = scipy.special.exp1
    options: dict[str, Any] = {"epsabs": 1e-11, "epsrel": 1e-11, "limit": 200}

    def survival(t: float) -> float:
        return temperature * (exp1(t) - exp1(t * np.exp(1 / temperature)))

    def density(u: float) -> float:
        weight = np.exp(u / temperature)

        def integrand(s: float) -> float:  # t = e^s
            x = weight * np.exp(s)
            return n * x * np.exp(-x) * survival(np.exp(s)) ** (n - 1)

        low, high = -40 - u / temperature, 4 - u / temperature
        return scipy.integrate.quad(integrand, low, high, **options)[0]

    def term(u: float) -> float:
        h = density(u)
        return h * np.log(h)

    return scipy.integrate.quad(term, 0, 1, **options)[0]


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure and publish."""
    chosen = measure.options(SENTENCE, arguments)
    jax.config.update("jax_enable_x64", True)
    repeats = 1 if chosen.quick else chosen.repeats
    ns = np.geomspace(1.5, 1e6, 4 if chosen.quick else 64)
    results = {
        "best_of_n_kl": best_of_n_kl(ns, repeats),
        "expected_best_of_normal_rewards": expected_best_normal(ns, repeats),
        "soft_best_of_n_kl": soft_best_of_n_kl(1 if chosen.quick else 8, min(repeats, 3)),
    }
    holds = {}
    for quantity, rows in results.items():
        ours = rows["bon_theory"]
        others = [rows[name] for name in ("scipy", "quadax") if name in rows]
        cost, error = "seconds_per_value", "largest_relative_error"
        holds[f"{quantity}: cheaper"] = all(ours[cost] < other[cost] for other in others)
        # Below 1e-14 all of them are at rounding, and which is nearer is chance.
        holds[f"{quantity}: as accurate"] = all(
            ours[error] <= max(other[error], 1e-14) for other in others
        )
    return measure.publish("against_quadrature", SENTENCE, holds, results, chosen)


if __name__ == "__main__":
    main()
