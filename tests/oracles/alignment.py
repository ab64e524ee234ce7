"""Alignment losses by brute force: every n-tuple of draws, and optimisers that know no theory."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, optimize

Vector = NDArray[np.float64]


def pair_probs(probs: Vector, rewards: Vector, n: int) -> Vector:
    """P(best = y, worst = y') ``[K, K]``: all K**n tuples, and all lots that break their ties."""
    joint = np.zeros((probs.size, probs.size))
    for draws in itertools.product(range(probs.size), repeat=n):
        weight = np.prod(probs[list(draws)])
        if weight == 0:
            continue
        r = rewards[list(draws)]
        ends = [
            (i, j)
            for i, j in itertools.permutations(range(n), 2)
            if r[i] == r.max() and r[j] == r.min()
        ]
        for i, j in ends:
            joint[draws[i], draws[j]] += weight / len(ends)
    return joint


def contrastive_loss(joint: Vector, h: Vector, targets: Vector | float) -> float:
    """E (h(best) - h(worst) - target)^2."""
    return float(np.sum(joint * (h[:, None] - h[None, :] - targets) ** 2))


def fit(
    joint: Vector, probs: Vector, targets: Vector | float, sft_weight: float
) -> tuple[Vector, float]:
    """Minimise α·SFT + (1−α)·contrastive over logits by L-BFGS; the law and the gradient's norm.

    Coordinates are scaled by the square root of how often an outcome is in a pair, which is all
    the help that the optimiser gets.
    """
    best = joint.sum(1)
    scale = 1 / np.sqrt(joint.sum(0) + joint.sum(1))

    def objective(x: Vector) -> tuple[float, Vector]:
        h = x * scale
        logits = np.log(probs) + h
        log_z = np.logaddexp.reduce(logits)
        residual = h[:, None] - h[None, :] - targets
        value = (1 - sft_weight) * np.sum(joint * residual**2)
        value += sft_weight * (log_z - best @ logits)
        push = 2 * (joint * residual)
        slope = (1 - sft_weight) * (push.sum(1) - push.sum(0))
        slope += sft_weight * (np.exp(logits - log_z) - best)
        return float(value), slope * scale

    def gradient(x: Vector) -> Vector:
        return objective(x)[1]

    found = optimize.minimize(
        objective, np.zeros(probs.size), jac=True, method="L-BFGS-B",
        options={"maxiter": 20_000, "maxfun": 20_000, "ftol": 0.0, "gtol": 1e-13, "maxcor": 30},
    )  # fmt: skip
    logits = np.log(probs) + found.x * scale
    law = np.exp(logits - np.logaddexp.reduce(logits))
    return law, float(np.max(np.abs(gradient(found.x))))


def ipo_by_moments(n: int, margin: float) -> Callable[[float], float]:
    """IPO on best-and-worst pairs, tie-free, even n: the kernel is a polynomial of degree n-2.

    h = [m (f_n - f_1) + Σ_k c_k u^k]/(f_n + f_1), where Σ_k c_k u^k = n(n-1)∫(u-v)^(n-2) h(v) dv
    depends on the moments of h alone; they solve a linear system whose entries SciPy integrates.
    Unnormalised: h(1/2) = 0 by antisymmetry.
    """

    def ends(u: float) -> float:
        return n * (u ** (n - 1) + (1 - u) ** (n - 1))

    def lean(u: float) -> float:
        return n * (u ** (n - 1) - (1 - u) ** (n - 1))

    def moment(f: Callable[[float], float]) -> float:
        return integrate.quad(f, 0, 1, epsabs=1e-13, epsrel=1e-13, limit=400)[0]

    # Around 1/2, where the system is best conditioned: x = u - 1/2.
    size = n - 1
    powers = range(size)
    binomial = [np.prod(np.arange(n - 2, n - 2 - k, -1)) / _factorial(k) for k in powers]
    # (x - y)^(n-2) = Σ_k C(n-2, k) x^k (-y)^(n-2-k)
    overlap = np.array(
        [[moment(lambda u, s=j + k: (u - 0.5) ** s / ends(u)) for j in powers] for k in powers]
    )
    source = np.array([moment(lambda u, k=k: (u - 0.5) ** k * lean(u) / ends(u)) for k in powers])
    # c_k = n(n-1) C(n-2,k) (-1)^(n-2-k) M_(n-2-k),  M_j = m source_j + Σ_i c_i overlap_ij
    matrix, right = np.eye(size), np.zeros(size)
    for k in range(size):
        factor = n * (n - 1) * binomial[k] * (-1) ** (n - 2 - k)
        matrix[k] -= factor * overlap[n - 2 - k]
        right[k] = factor * margin * source[n - 2 - k]
    # Constants are a solution of the homogeneous equation; the smallest one is antisymmetric.
    c = np.linalg.lstsq(matrix, right, rcond=1e-12)[0]
    return lambda u: float(margin * lean(u) + np.polyval(c[::-1], u - 0.5)) / ends(u)


def _factorial(k: int) -> float:
    return float(np.prod(np.arange(1, k + 1)))


def functionals(h: Callable[[float], float]) -> tuple[float, float]:
    """Win rate and KL divergence of the tie-free law with density proportional to e^h."""

    def mean(f: Callable[[float], float]) -> float:
        halves = [(0.0, 0.5), (0.5, 1.0)]
        return sum(integrate.quad(f, a, b, epsabs=1e-13, epsrel=1e-13)[0] for a, b in halves)

    total = mean(lambda u: np.exp(h(u)))
    win_rate = mean(lambda u: u * np.exp(h(u))) / total
    return win_rate, mean(lambda u: h(u) * np.exp(h(u))) / total - np.log(total)


def level_pairs(levels: int, n: int) -> Vector:
    """The pair law of equally likely levels: second differences of (k/levels)^n, by counting."""
    k = np.arange(levels)
    gap = (k[:, None] - k[None, :]).astype(float)
    power = [np.maximum(gap + shift, 0) ** n for shift in (1, 0, -1)]
    return (
        np.where(gap >= 0, power[0] - 2 * power[1] * (gap > 0) + power[2], 0) / float(levels) ** n
    )
