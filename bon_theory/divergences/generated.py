"""The f-divergence of any generator, and what it takes to know a generator far out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import require
from bon_theory._numerics import one_program
from bon_theory.divergences.terms import log_ratio_of, outcome_log_probs
from bon_theory.policy import Policy

__all__ = ["f_divergence"]


def f_divergence(
    policy: Policy, reference: Policy, generator: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    r""":math:`D_f(P\|Q) = \sum Q\, f(P/Q)`, ``generator`` :math:`f` convex, :math:`f(1) = 0`.

    Summed with :math:`f(t) - f'(1)(t-1)`, which has the same divergence and no negative value. An
    outcome that one law lacks takes the limit of :math:`f(t)` at 0 or of :math:`f(t)/t` at
    infinity. So does one whose ratio is beyond the range of floating point, unless the generator
    is affine in :math:`\log t` there, as logarithms are: then that line goes on. Both are read off
    at ratios as extreme as the generator bears; what still grows there has an infinite limit.

    A generator with kinks (:math:`|t - 1|`) is integrated to second order only on a continuous law;
    use :func:`total_variation`.

    Args:
        policy: :math:`P`.
        reference: :math:`Q`.
        generator: elementwise function of the ratio :math:`t = P/Q > 0`, differentiable at 1; it
            is not evaluated at 0.

    Raises:
        ValueError: the policies are not on the same outcomes, the generator is NaN at a ratio, or a
            ratio is beyond the range of floating point where the generator has neither a limit nor
            such a line (NaN while traced): use :func:`kl_divergence` or :func:`renyi_divergence`,
            which know no ratios.

    Example:
        >>> import bon_theory as bt
        >>> uniform = bt.Policy.uniform_reward()
        >>> best = bt.best_of_n(uniform, n=3)
        >>> round(float(bt.f_divergence(best, uniform, lambda t: (t - 1) ** 2)), 6)
        0.8

    Csiszár 1967; distribution-free for rank policies without ties.
    """
    log_p, log_q = outcome_log_probs(policy, reference)
    one, extremes = jnp.ones((), log_p.dtype), _extreme_ratios(log_p.dtype)
    _, tangent = jax.jvp(generator, (one,), (one,))
    ends = _ends(extremes, generator(extremes), generator(jnp.stack([one / 2, 2 * one])), tangent)
    ell, ratios = _ratios(log_p, log_q, ends)
    terms = _generated(log_p, log_q, ratios, generator(ratios), ends)
    require(
        lambda: ~np.isnan(np.asarray(terms)) | np.isnan(np.asarray(ell)),
        lambda: (
            "generator must be a number, or have a limit, at every ratio P/Q, got NaN at a log "
            f"ratio of {np.asarray(ell)[np.isnan(np.asarray(terms))].flat[0]:.6g}: for log ratios "
            "beyond floating point use kl_divergence or renyi_divergence."
        ),
        terms,
    )
    return jnp.sum(terms, axis=-1)


class _Ends(NamedTuple):
    """What a generator f less ``tangent``·(t-1) does towards ratios 0 and infinity, ``[2]`` each.

    Attributes:
        ratios: the most extreme ones at which it is evaluated.
        limits: of f at 0 and of f(t)/t at infinity: infinite where it still grows, NaN where it
            changes too slowly to tell.
        values: of f, or of f(t)/t, at ``ratios``.
        slopes: by which they go on per unit of log t: NaN where they are not affine in it.
        tangent: f'(1).
    """

    ratios: jax.Array
    limits: jax.Array
    values: jax.Array
    slopes: jax.Array
    tangent: jax.Array


def _extreme_ratios(dtype: Any) -> jax.Array:
    """Ratios ``[2, 2, 4]``: towards 0 and infinity; two of which the first is more extreme; powers.

    The first is at the end of floating point, then its root, its cubic and fourth root: a fourth
    power of the last is representable.
    """
    small = (2**14 * float(jnp.finfo(dtype).tiny)) ** (1 / np.arange(1, 5))
    towards_zero = np.stack([small, small**0.8])
    return jnp.asarray(np.stack([towards_zero, 1 / towards_zero]), dtype)


@one_program
def _ends(ratios: jax.Array, values: jax.Array, sizes: jax.Array, tangent: jax.Array) -> _Ends:
    """From ``values`` of the generator at the extreme ``ratios``, and ``sizes`` near 1 ``[2]``."""
    tangent = jnp.where(jnp.isfinite(tangent), tangent, 0)
    scaled = _over_larger(ratios, values, tangent)
    borne = jnp.argmax(jnp.all(jnp.isfinite(scaled), axis=1), axis=-1)  # [2]
    sides = jnp.arange(2)
    value, before = scaled[sides, 0, borne], scaled[sides, 1, borne]
    scale = jnp.abs(value) + jnp.sum(jnp.abs(sizes)) + jnp.abs(tangent)
    # An error like a power of the ratio is smaller at the end than the change on the way there.
    settled = jnp.abs(value - before) <= (8 * jnp.finfo(ratios.dtype).eps) ** 0.8 * scale
    grows = value - before > 1e-3 * scale
    limits = jnp.where(settled, value, jnp.where(grows | (value == jnp.inf), jnp.inf, jnp.nan))
    # The line through the two, where it meets the value at the root of the most extreme ratio.
    end, root = ratios[sides, 0, borne], jnp.minimum(borne + 1, ratios.shape[-1] - 1)
    steps = jnp.log(ratios[sides, 1, borne]) - jnp.log(end)  # of two logarithms: none overflows
    slopes = (before - value) / steps
    on_line = value + slopes * (jnp.log(ratios[sides, 0, root]) - jnp.log(end))
    misfit = jnp.abs(scaled[sides, 0, root] - on_line)
    is_affine = (root > borne) & (misfit <= 64 * jnp.finfo(ratios.dtype).eps * scale)
    return _Ends(end, limits, value, jnp.where(is_affine, slopes, jnp.nan), tangent)


@one_program
def _ratios(log_p: jax.Array, log_q: jax.Array, ends: _Ends) -> tuple[jax.Array, jax.Array]:
    """log P/Q, and P/Q itself where the generator bears it, 1 elsewhere; ``[..., K]`` both."""
    ell, (least, most) = log_ratio_of(log_p, log_q), jnp.log(ends.ratios)
    return ell, jnp.exp(jnp.where((ell < least) | (ell > most), 0, ell))


@one_program
def _generated(
    log_p: jax.Array, log_q: jax.Array, ratios: jax.Array, values: jax.Array, ends: _Ends
) -> jax.Array:
    """The terms Q f(P/Q) ``[..., K]``, each from the larger law: Q f(t), or P f(t)/t if t > 1."""
    ell = log_ratio_of(log_p, log_q)
    weight = jnp.exp(jnp.where(ell > 0, log_p, log_q))
    inside = jnp.maximum(_over_larger(ratios, values, ends.tangent), 0)
    limit = jnp.where(ell > 0, ends.limits[1], ends.limits[0])
    # Beyond floating point a finite limit says what the generator is, or else its line.
    side = (ell > 0).astype(int)
    beyond = jnp.where(jnp.isinf(ell), 0, ell - jnp.log(ends.ratios)[side])
    line = ends.values[side] + ends.slopes[side] * beyond
    limit = jnp.where(jnp.isfinite(limit) | jnp.isinf(ell), limit, line)
    value = jnp.where((ratios == 1) & (jnp.abs(ell) > 1), limit, inside)
    # Not multiplied where infinite: the weight may underflow, and its slope would be NaN.
    infinite = value == jnp.inf
    return jnp.where(infinite, jnp.inf, weight * jnp.where(infinite, 0, value))


def _over_larger(ratios: jax.Array, values: jax.Array, tangent: jax.Array) -> jax.Array:
    """(f(t) - tangent (t-1)) / max(t, 1), from the ``values`` f(t)."""
    larger = jnp.maximum(ratios, 1)
    return values / larger - tangent * ((ratios - 1) / larger)
