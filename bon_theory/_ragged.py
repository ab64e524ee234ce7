"""Laws of any number of outcomes through a few compiled programs.

A program is compiled for shapes, and prompts rarely have the same number of outcomes. So what is
called outside ``jit`` is computed at the next of a few sizes, with impossible outcomes up to there,
which change no result beyond rounding. Where the answer is a number, :func:`completed` at the
beginning is all; where it has outcomes, :func:`law_program` cuts it to the law's own size.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import numpy as np

from bon_theory._arguments import on_device, untraced
from bon_theory._numerics import namespace
from bon_theory.policy import Policy

__all__ = ["completed", "law_program"]

_SIZES = (16, 128, 512)  # then powers of two


def completed(*laws: Policy | jax.Array, beside: Any = ()) -> tuple[Any, ...]:
    """The laws, and any values ``[..., K]`` at their outcomes, at the next of a few sizes.

    They stay as they are where they, or what their program takes ``beside`` them, are staged, where
    they have nodes, and where the user has placed them on a device. What carries a derivative
    outside ``jit`` is completed by small programs of its own size.
    """
    padding = _missing(laws, beside)
    return tuple(_padded(law, padding) for law in laws) if padding else laws


def law_program(
    function: Callable[..., Any] | None = None,
    *,
    ranks: bool = False,
    per_outcome: bool = False,
    **jit_options: Any,
) -> Any:
    """Decorates what is compiled as one program for laws of similar sizes.

    Args:
        function: of policies, scalars and static settings. Policies in its result are cut as well,
            and get the distribution function of the reward if they are without it.
        ranks: whether it looks at the distribution function of the reward. Otherwise that is left
            out, so that laws that carry it share a program with those that do not.
        per_outcome: whether arrays in the result have one entry per outcome.
        **jit_options: for ``jax.jit``.
    """
    if function is None:
        return functools.partial(law_program, ranks=ranks, per_outcome=per_outcome, **jit_options)
    program = jax.jit(function, **jit_options)

    def prepared(x: Any) -> Any:
        if not isinstance(x, Policy):
            return x
        return x.with_ranks() if ranks else x.without_ranks()

    @functools.wraps(function)
    def call(*arguments: Any, **settings: Any) -> Any:
        laws = [x for x in arguments if isinstance(x, Policy)]
        padding = _missing(laws, arguments)
        if padding:
            arguments = tuple(
                _padded(x, padding) if isinstance(x, Policy) else x for x in arguments
            )
        result = program(*map(prepared, arguments), **settings)

        def finished(x: Any) -> Any:
            if padding and (per_outcome or isinstance(x, Policy)):
                x = jax.tree.map(lambda leaf: _cut(leaf, _size(laws[0])), x)
            return _ranked(x) if isinstance(x, Policy) else x

        return jax.tree.map(finished, result, is_leaf=lambda x: isinstance(x, Policy))

    return call


def _ranked(law: Policy) -> Policy:
    """With the distribution function of the reward, but for a derivative outside ``jit``.

    There it would be differentiated for nothing: whoever asks for it later gets it then.
    """
    has_derivative = isinstance(law.log_probs, jax.core.Tracer) and not _is_staged(law)
    return law if has_derivative else law.with_ranks()


def _missing(laws: Sequence[Policy | jax.Array], beside: Any) -> int:
    """How many outcomes the laws lack to the size at which they are computed, if they may be."""
    size = _size(laws[0])
    if _is_staged(laws, beside) or not all(map(_may_be_padded, laws)):
        return 0
    return next((s for s in _SIZES if s >= size), 1 << (size - 1).bit_length()) - size


def _is_staged(*values: Any) -> bool:
    """Whether a leaf has no value yet: within jit and vmap, but not in derivatives outside them."""
    return any(_value(leaf) is None for leaf in jax.tree.leaves(values))


def _value(x: Any) -> Any:
    """What is known of an array now: under differentiation its value, in a staged program None."""
    return x.to_concrete_value() if isinstance(x, jax.core.Tracer) else x


def _size(law: Policy | jax.Array) -> int:
    return jax.tree.leaves(law)[0].shape[-1]


def _may_be_padded(law: Policy | jax.Array) -> bool:
    """Nodes of a continuous law may not; nor arrays that the user has placed on devices."""
    is_continuous = isinstance(law, Policy) and law.continuous
    return not is_continuous and not getattr(_value(jax.tree.leaves(law)[0]), "committed", False)


def _padded(law: Policy | jax.Array, padding: int) -> Any:
    """The law with impossible outcomes at its end, of a reward and a value that it has."""

    def pad(leaf: Any, **mode: Any) -> jax.Array:
        # Where there is no derivative, by NumPy: JAX would compile a program for each size.
        widths = [(0, 0)] * (leaf.ndim - 1) + [(0, padding)]
        return on_device(namespace(untraced(leaf)).pad(untraced(leaf), widths, **mode))

    edge = functools.partial(pad, mode="edge")
    impossible = functools.partial(pad, constant_values=-np.inf)
    if not isinstance(law, Policy):
        return edge(law)
    ranks = law.ranks and (edge(law.ranks[0]), edge(law.ranks[1]))
    return Policy(impossible(law.log_probs), edge(law.rewards), ranks)


def _cut(array: jax.Array, size: int) -> jax.Array:
    """The entries of the law's own outcomes."""
    return on_device(untraced(array)[..., :size])
