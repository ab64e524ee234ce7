r"""The race with exponential noise, a race of ratios to uniform numbers, in closed form."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bon_theory._numerics import NOTHING, cumulative_log_sum, log1mexp, log_mean_power

__all__ = ["exponential_race_log_ratio"]

Pair = tuple[jax.Array, jax.Array]


def exponential_race_log_ratio(
    log_probs: jax.Array, log_weights: jax.Array, n: jax.Array
) -> jax.Array:
    r""":math:`\log P/\pi` of :math:`\arg\max_i r_i/\lambda + \mathrm{Exp}(1) = \arg\max w_i/U_i`.

    With :math:`H(s) = E_\pi[(1 - w/s)_+]` the probability that a candidate scores at most
    :math:`s`, and outcomes sorted by :math:`w`, on :math:`[w_k, w_{k+1}]` it is
    :math:`A_k - B_k/s` (:math:`A_k, B_k` running sums of :math:`\pi` and :math:`\pi w`), so

    .. math:: \frac{P(x)}{\pi(x)} = w(x) \sum_{k \ge x} \frac{H(w_{k+1})^n - H(w_k)^n}
              {H(w_{k+1}) - H(w_k)} \Bigl(\frac1{w_k} - \frac1{w_{k+1}}\Bigr), \qquad w_{K+1} =
              \infty .

    Every term is positive and nothing cancels. The sums run over gaps
    :math:`d_k = \log w_{k+1} - \log w_k`, so that their accuracy does not suffer from the range of
    the weights: with :math:`m_k` the quotient above,

    .. math:: \frac{B_k}{w_k} = \pi_k + e^{-d_{k-1}} \frac{B_{k-1}}{w_{k-1}}, \qquad
              \frac{P_k}{\pi_k} = m_k (1 - e^{-d_k}) + e^{-d_k} \frac{P_{k+1}}{\pi_{k+1}} .

    Arrays ``[K]``; derived here, for the mechanism of [U].
    """
    # An impossible outcome must not tie with a possible one, whose derivative it would take.
    lowest = jax.lax.stop_gradient(jnp.min(log_weights)) - 1
    log_weights = jnp.where(log_probs > -jnp.inf, log_weights, lowest)
    places = jnp.arange(log_weights.size)
    log_weights, log_probs, places = jax.lax.sort((log_weights, log_probs, places), num_keys=1)
    log_probs = jnp.maximum(log_probs, NOTHING)
    gaps = jnp.diff(log_weights)
    log_lost = jnp.maximum(log1mexp(-gaps), NOTHING)
    # H rises by B_k (1/w_k - 1/w_{k+1}) between outcomes; its complement is what lies above.
    log_b_over_w = _decaying_log_sum(jnp.pad(gaps, (1, 0)), log_probs)
    below = cumulative_log_sum(log_b_over_w[:-1] + log_lost)
    lower = jnp.pad(below, (1, 0), constant_values=-jnp.inf)
    above = jnp.append(cumulative_log_sum(log_probs, reverse=True)[1:], -jnp.inf)
    complement = jnp.minimum(jnp.logaddexp(above, log_b_over_w), 0)
    log_h = jnp.where(lower <= complement, lower, log1mexp(complement))
    log_next = jnp.append(log_h[1:], 0)
    quotients = log_mean_power(n, log_h, jnp.maximum(log_next, log_h))
    terms = jnp.maximum(quotients + jnp.append(log_lost, 0), NOTHING)
    log_ratio = _decaying_log_sum(jnp.append(gaps, 0)[::-1], terms[::-1])[::-1]
    return log_ratio.at[places].set(log_ratio, unique_indices=True)


_BLOCK = 16


def _decaying_log_sum(decays: jax.Array, x: jax.Array) -> jax.Array:
    r""":math:`y_k = \log(e^{x_k} + e^{y_{k-1} - \mathrm{decay}_k})` from the first on, ``[K]``.

    All blocks at once, step by step, and then over blocks by itself: few operations at any size.
    """
    size = x.size
    width = min(size, _BLOCK)
    filling = (0, -size % width)
    decays = jnp.pad(decays, filling).reshape(-1, width)
    x = jnp.pad(x, filling, constant_values=NOTHING).reshape(-1, width)

    def step(before: Pair, here: Pair) -> tuple[Pair, Pair]:
        decay, x = here
        after = before[0] + decay, jnp.logaddexp(x, before[1] - decay)
        return after, after

    nothing = jnp.full_like(x[:, 0], NOTHING)
    (decay, total), (decayed, within) = jax.lax.scan(
        step, (jnp.zeros_like(nothing), nothing), (decays.T, x.T)
    )
    if nothing.size > 1:
        before = jnp.append(nothing[:1], _decaying_log_sum(decay, total)[:-1])
        within = jnp.logaddexp(within, before[None] - decayed)
    return within.T.reshape(-1)[:size]
