"""LoRA: each matrix of the layers W stays, and a product A B of low rank is trained beside it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from simulations.language_model.transformer import Transformer

_MATRICES = (
    ("attention", "project"),
    ("attention", "output"),
    ("perceptron", "expand"),
    ("perceptron", "contract"),
)


class LowRankLinear(nnx.Module):
    """x W + b + s (x A) B, with W and b as they were.

    Args:
        linear: the layer that stays; its kernel may be stacked, ``[layers, in, out]``.
        rank: of A B.
        scale: s = scale / rank, as in the paper, where scale is called α.
        rngs: of A; B is zero, so that at first nothing changes.

    Hu et al. 2021, §4.1.
    """

    def __init__(self, linear: nnx.Linear, *, rank: int, scale: float, rngs: nnx.Rngs) -> None:
        *stack, inputs, outputs = linear.kernel[...].shape
        dtype = linear.kernel[...].dtype
        spread = jnp.asarray(inputs**-0.5, dtype)
        self.linear = linear
        self.first = nnx.LoRAParam(
            spread * jax.random.normal(rngs.params(), (*stack, inputs, rank), dtype)
        )
        self.second = nnx.LoRAParam(jnp.zeros((*stack, rank, outputs), dtype))
        self.scale = scale / rank

    def __call__(self, x: jax.Array) -> jax.Array:
        """``[R, in]`` to ``[R, out]``."""
        return self.linear(x) + (x @ self.first[...]) @ self.second[...] * self.scale

    def merged(self) -> nnx.Linear:
        """One layer that does the same."""
        change = self.first[...] @ self.second[...] * self.scale
        linear = nnx.clone(self.linear)
        linear.kernel[...] = linear.kernel[...] + change
        return linear


def with_low_rank(
    model: Transformer, *, rank: int, scale: float | None = None, rngs: nnx.Rngs
) -> Transformer:
    """A copy of ``model`` whose layers' matrices are :class:`LowRankLinear`; shares its parameters.

    Train it with ``trained=nnx.LoRAParam``.

    Args:
        model: any transformer; embeddings, norms and head stay.
        rank: of the change of each matrix, at least 1.
        scale: of the change; 2 · rank unless given.
        rngs: of the first factors.

    Raises:
        ValueError: a rank below 1.
    """
    if rank < 1:
        raise ValueError(f"rank is {rank}: a change of a matrix has rank 1 at least")
    adapted = nnx.merge(*nnx.split(model))
    for part, name in _MATRICES:
        layer = getattr(adapted.layers, part)
        linear = LowRankLinear(
            getattr(layer, name), rank=rank, scale=scale or 2.0 * rank, rngs=rngs
        )
        setattr(layer, name, linear)
    return adapted


def merged(model: Transformer) -> Transformer:
    """A copy with the changes added to the matrices, as checkpoints hold them; others as they are.

    Example:
        >>> from simulations.language_model.architecture import TransformerConfig
        >>> model = Transformer(TransformerConfig(width=8, num_layers=1), rngs=nnx.Rngs(0))
        >>> adapted = with_low_rank(model, rank=2, rngs=nnx.Rngs(1))
        >>> bool((merged(adapted)(jnp.array([[72]])) == model(jnp.array([[72]]))).all())
        True
    """
    whole = nnx.merge(*nnx.split(model))
    for part, name in _MATRICES:
        layer = getattr(whole.layers, part)
        if isinstance(linear := getattr(layer, name), LowRankLinear):
            setattr(layer, name, linear.merged())
    return whole
