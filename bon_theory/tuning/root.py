r"""The root of an increasing function in a bracket, with implicit derivatives.

Why not a library's: SciPy's finders cannot be traced, and of optimistix's only bisection keeps its
bracket. Measured on a soft best-of-n of 64 outcomes, optimistix 0.1.0 takes 11 ms a root and this
takes 3 ms, at equal compile times; it would also double the wheel's dependencies.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

__all__ = ["Evaluation", "bracketed_root", "implicit_root", "increasing_root"]

Lanes = TypeVar("Lanes", bound=NamedTuple)
Observed = Callable[[jax.Array], tuple[jax.Array, Any]]
"""From x to the function there and what else was seen, all of one shape: lanes are independent."""

_MOST_STEPS = 200  # bisection alone would need about 60


class Evaluation(NamedTuple):
    """Where, the function there, and what else was seen there (arrays of the same shape)."""

    x: jax.Array
    value: jax.Array
    seen: Any = ()


def increasing_root(
    function: Callable[[jax.Array], jax.Array],
    low: jax.Array,
    high: jax.Array,
    at_low: jax.Array,
    at_high: jax.Array,
) -> jax.Array:
    r"""The root of an elementwise increasing ``function``, to rounding, lane by lane.

    Args:
        function: from and to arrays of one shape; may close over anything, traced or not.
        low: lower end of the bracket.
        high: upper end.
        at_low: the value there, at most 0, which the caller knows in closed form.
        at_high: the value there, at least 0.

    Derivatives: as :func:`implicit_root`.
    """
    ends = Evaluation(low, at_low), Evaluation(high, at_high)
    return implicit_root(lambda x: (function(x), ()), *ends).x


def implicit_root(function: Observed, low: Evaluation, high: Evaluation) -> Evaluation:
    r"""The root in a bracket whose ends are known; the function is evaluated in one place only.

    Derivatives of its ``x`` with respect to what ``function`` closes over, in forward and reverse
    mode: :math:`dx = -\partial_\theta f\,d\theta / \partial_x f`; 0 where the function is flat at
    its root, as at a bracket's end that stands for an infinite parameter. The ends, the value and
    what was seen carry none. Nothing is differentiated unless that is asked for, in contrast to
    ``lax.custom_root``, which traces the derivative in any case.
    """
    low, high = jax.lax.stop_gradient((low, high))
    closed, operands = jax.closure_convert(function, low.x)
    return _implicit_root(closed, low, high, *operands)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _implicit_root(
    function: Callable[..., Any], low: Evaluation, high: Evaluation, *operands: Any
) -> Evaluation:
    return bracketed_root(lambda x: function(x, *operands), low, high)


@_implicit_root.defjvp
def _implicit_root_jvp(function: Callable[..., Any], primals: Any, tangents: Any) -> Any:
    root = _implicit_root(function, *primals)
    x, operands = root.x, primals[2:]

    def value(x: jax.Array, *operands: Any) -> jax.Array:
        return function(x, *operands)[0]

    # Lanes are independent: the Jacobian in x is diagonal.
    _, slope = jax.jvp(lambda x: value(x, *operands), (x,), (jnp.ones_like(x),))
    _, change = jax.jvp(lambda *moved: value(x, *moved), operands, tangents[2:])
    is_flat = slope == 0
    dx = jnp.where(is_flat, 0, -change / jnp.where(is_flat, 1, slope))
    return root, Evaluation(dx, *jax.tree.map(jnp.zeros_like, root[1:]))


class _State(NamedTuple):
    """The latest point, the other end of the bracket, the point before, and where to look next."""

    latest: Evaluation
    opposite: Evaluation
    previous: Evaluation
    share: jax.Array  # of the way from latest to opposite
    done: jax.Array


def bracketed_root(
    function: Observed, low: Evaluation, high: Evaluation, most_steps: int = _MOST_STEPS
) -> Evaluation:
    """Where the function changes sign, its value and what was seen there; no derivatives.

    Chandrupatla's method (Adv. Eng. Software 28, 145 (1997)): inverse quadratic interpolation
    where three points promise that it converges, bisection elsewhere. The bracket never
    opens, whatever the function does inside.
    """

    def is_running(loop: tuple[jax.Array, _State]) -> jax.Array:
        return (loop[0] < most_steps) & ~jnp.all(loop[1].done)

    def step(loop: tuple[jax.Array, _State]) -> tuple[jax.Array, _State]:
        count, old = loop
        x = old.latest.x + old.share * (old.opposite.x - old.latest.x)
        latest = Evaluation(x, *function(x))
        stays = (latest.value > 0) == (old.latest.value > 0)  # on the same side of the root
        opposite = _select(stays, old.opposite, old.latest)
        previous = _select(stays, old.latest, old.opposite)
        new = _next(latest, opposite, previous)
        return count + 1, _select(old.done, old, new)

    half = jnp.full_like(low.x, 0.5)
    done = (low.value == 0) | (high.value == 0) | (low.x == high.x)
    start = _State(low, high, high, half, done)
    _, found = jax.lax.while_loop(is_running, step, (jnp.zeros((), jnp.int32), start))
    return _nearer(found.latest, found.opposite)


def _next(latest: Evaluation, opposite: Evaluation, previous: Evaluation) -> _State:
    """Whether to stop, and otherwise where to look."""
    limits = jnp.finfo(latest.x.dtype)
    width = jnp.abs(opposite.x - latest.x)
    tolerance = 2 * limits.eps * jnp.abs(_nearer(latest, opposite).x) + limits.tiny
    done = (width <= tolerance) | (latest.value == 0)
    least = jnp.minimum(0.5, tolerance / jnp.where(done, tolerance, width))
    share = jnp.clip(_interpolation(latest, opposite, previous), least, 1 - least)
    return _State(latest, opposite, previous, share, done)


def _interpolation(a: Evaluation, b: Evaluation, c: Evaluation) -> jax.Array:
    """Inverse quadratic through three points where it can be trusted, one half elsewhere."""
    xi = (a.x - b.x) / (c.x - b.x)
    phi = (a.value - b.value) / (c.value - b.value)
    trusted = (phi**2 < xi) & ((1 - phi) ** 2 < 1 - xi)
    ab, ac, bc = a.value - b.value, a.value - c.value, b.value - c.value
    slant = (c.x - a.x) / (b.x - a.x)
    quadratic = slant * (a.value / ac) * (b.value / bc) - (a.value / ab) * (c.value / bc)
    return jnp.where(trusted & jnp.isfinite(quadratic), quadratic, 0.5)


def _nearer(a: Evaluation, b: Evaluation) -> Evaluation:
    return _select(jnp.abs(a.value) <= jnp.abs(b.value), a, b)


def _select(condition: jax.Array, first: Lanes, second: Lanes) -> Lanes:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), first, second)
