r"""The population minimiser of :math:`\alpha` SFT + :math:`(1-\alpha)` IPO on pairs, by Newton.

Write :math:`h = \log \pi_\theta/\pi`, up to a constant. The loss

.. math:: L(h) = \alpha\Bigl[\log E_\pi e^h - E_{\text{best}} h\Bigr]
          + (1-\alpha)\, E\bigl(h(\text{best}) - h(\text{worst}) - m\bigr)^2

is convex. Its derivative in :math:`h(y)`, over :math:`\pi(y)\,d(y)` with :math:`d = f_n + f_1`, is

.. math:: 2(1-\alpha)\bigl[h - Rh - m(2\rho - 1)\bigr]
          + \alpha\Bigl[\frac{e^h}{d\,E_\pi e^h} - \rho\Bigr],

where :math:`\rho = f_n/d` and :math:`(Rh)(y) = E[h(\text{other end}) \mid y \text{ is one end}]`.
At :math:`\alpha = 0` it is a Fredholm equation: :math:`d\,Rh = n(n-1)\int |u-v|^{n-2}h(v)\,dv`
without ties. Derived here.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from bon_theory._numerics import log1p_quotient, one_program
from bon_theory.alignment.pairs import PairLaw

__all__ = ["log_ratio_between", "minimising_log_ratio"]

_MOST_STEPS = 1000


@one_program
def minimising_log_ratio(law: PairLaw, margin: jax.Array, sft_weight: jax.Array) -> jax.Array:
    """The minimiser's log ratio ``[K]`` on the outcomes of ``law``, normalised."""
    mass = jnp.exp(law.log_mass)
    identity = jnp.eye(mass.size, dtype=mass.dtype)
    contrast = identity - law.partner
    scale, idle = _scale(law, sft_weight)
    by_pairs = _normalised(jnp.linalg.solve(contrast + mass[None, :], margin * law.lean), law)
    guess = log_ratio_between(law, law.partner @ by_pairs, margin, sft_weight)
    guess = jax.lax.stop_gradient(guess)

    def residual(h: jax.Array) -> jax.Array:
        push = 2 * (1 - sft_weight) * (contrast @ h - margin * law.lean)
        pull = sft_weight * (_ends_share(h, law) - law.best_share)
        # The last term picks one of the equal laws h + constant; it vanishes at the solution,
        # because the others are orthogonal to the weights with which rows are read.
        rows = (push + pull) / scale + mass @ (h - guess)
        return jnp.where(idle, h - guess, rows)

    def jacobian(h: jax.Array) -> jax.Array:
        probs = jax.nn.softmax(law.log_mass + h)
        share = sft_weight * _ends_share(h, law)
        curvature = share[:, None] * (identity - probs[None, :])
        rows = (2 * (1 - sft_weight) * contrast + curvature) / scale[:, None]
        return jnp.where(idle[:, None], identity, rows + mass[None, :])

    def newton(_: Callable[[jax.Array], jax.Array], guess: jax.Array) -> jax.Array:
        return _damped(lambda h: -jnp.linalg.solve(jacobian(h), residual(h)), guess, jnp.max)

    def tangent(linear: Callable[[jax.Array], jax.Array], b: jax.Array) -> jax.Array:
        return jnp.linalg.solve(jax.jacobian(linear)(b), b)

    return _normalised(jax.lax.custom_root(residual, guess, newton, tangent), law)


@one_program
def log_ratio_between(
    law: PairLaw, partner_mean: jax.Array, margin: jax.Array, sft_weight: jax.Array
) -> jax.Array:
    r"""The minimiser at further outcomes, where :math:`Rh` is known as ``partner_mean [K]``.

    The stationarity condition is then one equation in one unknown per outcome; at
    :math:`\alpha = 0` it is the natural interpolation of Nyström.
    """
    scale, idle = _scale(law, sft_weight)
    by_pairs = partner_mean + margin * law.lean
    guess = jax.lax.stop_gradient(_from_above(law, by_pairs, sft_weight))

    def residual(h: jax.Array) -> jax.Array:
        push = 2 * (1 - sft_weight) * (h - by_pairs)
        pull = sft_weight * (_exp(h - law.log_ends) - law.best_share)
        return jnp.where(idle, h - guess, (push + pull) / scale)

    def slope(h: jax.Array) -> jax.Array:
        curvature = 2 * (1 - sft_weight) + sft_weight * _exp(h - law.log_ends)
        return jnp.where(idle, 1, curvature / scale)

    def newton(_: Callable[[jax.Array], jax.Array], guess: jax.Array) -> jax.Array:
        return _damped(lambda h: -residual(h) / slope(h), guess, lambda size: size)

    def tangent(linear: Callable[[jax.Array], jax.Array], b: jax.Array) -> jax.Array:
        return b / linear(jnp.ones_like(b))

    return jax.lax.custom_root(residual, guess, newton, tangent)


def _ends_share(h: jax.Array, law: PairLaw) -> jax.Array:
    r""":math:`e^h / (d\,E_\pi e^h)`: the policy's density over that of the ends of pairs."""
    return _exp(h - law.log_ends - jax.nn.logsumexp(law.log_mass + h))


def _exp(x: jax.Array) -> jax.Array:
    """exp, but finite: at the solution it is moderate, and without SFT it counts zero times."""
    return jnp.exp(jnp.minimum(x, jnp.log(jnp.finfo(x.dtype).max) - 1))


def _scale(law: PairLaw, sft_weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The size of a row of the condition, and which outcomes it does not bind at all.

    Those are the impossible ones and, for SFT alone, those with a density that underflows.
    """
    scale = 2 * (1 - sft_weight) + sft_weight * law.best_share
    idle = (scale < jnp.finfo(scale.dtype).tiny) | (law.log_mass == -jnp.inf)
    return jnp.where(idle, 1, scale), idle


def _from_above(law: PairLaw, by_pairs: jax.Array, sft_weight: jax.Array) -> jax.Array:
    r"""Where Newton starts outcome by outcome: near the root of a linear plus an exponential term.

    :math:`h + c e^h = y` with :math:`c = \alpha/(2(1-\alpha)d)` has its root below :math:`y` and,
    while :math:`q = y + \log c` is large, near :math:`\log(q/c)`. SFT alone is :math:`c = \infty`.
    """
    inner = jnp.minimum(sft_weight, 1 - jnp.finfo(by_pairs.dtype).eps)
    push = 2 * (1 - inner)
    log_c = jnp.log(inner / push) - law.log_ends
    y = by_pairs + inner * law.best_share / push
    mixed = jnp.minimum(y, jnp.log(jnp.maximum(y + log_c, 1)) - log_c)
    return jnp.where(sft_weight == 1, law.log_best, mixed)


def _normalised(h: jax.Array, law: PairLaw) -> jax.Array:
    return h - jax.nn.logsumexp(law.log_mass + h)


def _damped(
    step: Callable[[jax.Array], jax.Array],
    guess: jax.Array,
    norm: Callable[[jax.Array], jax.Array],
) -> jax.Array:
    r"""Newton with steps of size s shortened to log(1 + s); NaN if it does not converge.

    The third derivative of log-sum-exp along a direction is at most twice its largest entry times
    the second, so the model is trusted over changes of h of order one (Bach 2010); near the
    solution the factor tends to 1 and convergence is quadratic.
    """
    tolerance = jnp.sqrt(jnp.finfo(guess.dtype).eps)

    def unfinished(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        h, size, count = state
        return jnp.any(size > tolerance * (1 + jnp.abs(h))) & (count < _MOST_STEPS)

    def advance(
        state: tuple[jax.Array, jax.Array, jax.Array],
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        h, _, count = state
        change = step(h)
        size = jnp.broadcast_to(norm(jnp.abs(change)), h.shape)
        return h + change * log1p_quotient(size), size, count + 1

    start = (guess, jnp.full_like(guess, jnp.inf), jnp.zeros((), jnp.int32))
    h, size, _ = jax.lax.while_loop(unfinished, advance, start)
    return jnp.where(size <= tolerance * (1 + jnp.abs(h)), h, jnp.nan)
