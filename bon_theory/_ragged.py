"""Laws of any number of outcomes through a few compiled programs.

A program is compiled for shapes, and prompts rarely have the same number of outcomes. So what is
called outside ``jit`` is computed at the next of a few sizes, with impossible outcomes up to there,
and cut to the law's own size. Impossible outcomes change no result beyond rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from bon_theory._arguments import is_concrete
from bon_theory.policy import Policy

__all__ = ["law_program"]

_SIZES = (16, 128, 512)  # then powers of two


def law_program(
    function: Callable[..., Any] | None = None,
    *,
    masses: int = 0,
    ranks: bool = False,
    per_outcome: bool = False,
    **jit_options: Any,
) -> Any:
    """Decorates what is compiled as one program for laws of similar sizes.

    Args:
        function: of policies, scalars and static settings. Policies in its result are cut as well,
            and get the distribution function of the reward if they are without it.
        masses: how many of its first arguments are no policies, but their ``log_probs`` alone.
        ranks: whether it looks at the distribution function of the reward. Otherwise that is left
            out, so that laws that carry it share a program with those that do not.
        per_outcome: whether arrays in the result have one entry per outcome.
        **jit_options: for ``jax.jit``.
    """
    if function is None:
        return functools.partial(
            law_program, masses=masses, ranks=ranks, per_outcome=per_outcome, **jit_options
        )
    program = jax.jit(function, **jit_options)

    def prepared(x: Any) -> Any:
        if not isinstance(x, Policy):
            return x
        return x.with_ranks() if ranks else x.without_ranks()

    @functools.wraps(function)
    def call(*arguments: Any, **settings: Any) -> Any:
        arguments = tuple(prepared(x) for x in arguments)
        is_law = [i < masses or isinstance(x, Policy) for i, x in enumerate(arguments)]
        laws = [x for x, law in zip(arguments, is_law, strict=True) if law]
        size = jax.tree.leaves(laws[0])[0].shape[-1]
        padding = _common_size(size) - size
        is_padded = padding > 0 and is_concrete(arguments) and all(map(_may_be_padded, laws))
        if is_padded:
            arguments = tuple(
                _padded(x, padding) if law else x for x, law in zip(arguments, is_law, strict=True)
            )
        result = program(*arguments, **settings)
        is_whole = is_concrete(result)

        def finished(x: Any) -> Any:
            if is_padded and (per_outcome or isinstance(x, Policy)):
                x = jax.tree.map(lambda leaf: _cut(leaf, size, is_whole), x)
            return x.with_ranks() if isinstance(x, Policy) else x

        return jax.tree.map(finished, result, is_leaf=lambda x: isinstance(x, Policy))

    return call


def _common_size(size: int) -> int:
    """The size at which so many outcomes are computed."""
    return next((s for s in _SIZES if s >= size), 1 << (size - 1).bit_length())


def _may_be_padded(law: Policy | jax.Array) -> bool:
    """Nodes of a continuous law may not; nor arrays that the user has placed on devices."""
    is_continuous = isinstance(law, Policy) and law.continuous
    return not is_continuous and not getattr(jax.tree.leaves(law)[0], "committed", False)


def _padded(law: Policy | jax.Array, padding: int) -> Any:
    """The law with impossible outcomes at its end, of a reward that it has."""

    def pad(leaf: Any, **mode: Any) -> jax.Array:
        # By NumPy: JAX would compile a program for each size.
        return jax.device_put(np.pad(leaf, [(0, 0)] * (leaf.ndim - 1) + [(0, padding)], **mode))

    def impossible(log_probs: jax.Array) -> jax.Array:
        return pad(log_probs, constant_values=-np.inf)

    if not isinstance(law, Policy):
        return impossible(law)
    edge = functools.partial(pad, mode="edge")
    ranks = law.ranks and (edge(law.ranks[0]), edge(law.ranks[1]))
    return Policy(impossible(law.log_probs), edge(law.rewards), ranks)


def _cut(array: jax.Array, size: int, is_whole: bool) -> jax.Array:
    """The entries of the law's own outcomes."""
    return jax.device_put(np.asarray(array)[..., :size]) if is_whole else array[..., :size]
