r"""The race with exponential noise, a race of ratios to uniform numbers, in closed form."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bon_theory.numerics import cumulative_log_sum, log1mexp, log_diff_exp, log_mean_power

__all__ = ["exponential_race_log_ratio"]


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

    Every term is positive and nothing cancels. Arrays ``[K]``; derived here, for the mechanism of
    [U].
    """
    # An impossible outcome must not tie with a possible one, whose derivative it would take.
    lowest = jax.lax.stop_gradient(jnp.min(log_weights)) - 1
    log_weights = jnp.where(log_probs > -jnp.inf, log_weights, lowest)
    order = jnp.argsort(log_weights)
    inverse = jnp.argsort(order)
    log_probs, log_w = log_probs[order], log_weights[order]
    log_gap = log_diff_exp(-log_w, -jnp.append(log_w[1:], jnp.inf))
    log_b = cumulative_log_sum(log_probs + log_w)
    # H rises by B_k (1/w_k - 1/w_{k+1}) between outcomes; its complement is what lies above.
    rises = cumulative_log_sum(log_b + log_gap)
    above = jnp.append(cumulative_log_sum(log_probs, reverse=True)[1:], -jnp.inf)
    complement = jnp.minimum(jnp.logaddexp(above, log_b - log_w), 0)
    lower = jnp.insert(rises[:-1], 0, -jnp.inf)
    log_h = jnp.where(lower <= complement, lower, log1mexp(complement))
    log_next = jnp.append(log_h[1:], 0)
    terms = log_mean_power(n, log_h, jnp.maximum(log_next, log_h)) + log_gap
    return (log_w + cumulative_log_sum(terms, reverse=True))[inverse]
