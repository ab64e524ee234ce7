"""Laws as arguments: that they are laws, that they fit together, and sums over their outcomes."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from bon_theory._arguments import require_batches
from bon_theory._quadrature import lattice_sum
from bon_theory.policy import Policy

__all__ = ["aligned", "require_policy", "require_same_outcomes", "total"]


def require_policy(name: str, value: Policy) -> None:
    """Raise ``ValueError`` unless ``value`` is a policy in a precision that is switched on."""
    if not isinstance(value, Policy):
        raise ValueError(
            f"{name} must be a Policy, got {type(value).__name__}: "
            "make one with Policy.from_probs, from_logits, from_samples or from_quantile."
        )
    if value.dtype != jax.dtypes.canonicalize_dtype(value.dtype):
        raise ValueError(
            f"{name} must be in a precision that is switched on, got {value.dtype} while "
            "jax_enable_x64 is off: switch it on again, or make the policy anew in float32."
        )


def require_same_outcomes(policy: Policy, name: str, other: Policy) -> None:
    """Raise ``ValueError`` unless ``policy`` and the ``other``, so named, can be compared."""
    require_policy("policy", policy)
    require_policy(name, other)
    if policy.num_outcomes != other.num_outcomes or policy.continuous != other.continuous:
        raise ValueError(
            f"policy and {name} must be laws on the same outcomes, got {_describe(policy)} and "
            f"{_describe(other)}: derive one from the other by a selection."
        )
    require_batches("policy", policy.batch_shape, other.batch_shape)


def _describe(policy: Policy) -> str:
    kind = "continuous nodes" if policy.continuous else "outcomes"
    return f"{policy.num_outcomes} {kind}"


def aligned(*policies: Policy, ndim: int = 0) -> tuple[Policy, ...]:
    """The policies with singleton batch axes in front, so that all arrays have the same rank."""
    ndim = max(ndim, *(policy.log_probs.ndim for policy in policies))

    def expand(leaf: jax.Array) -> jax.Array:
        return leaf.reshape((1,) * (ndim - leaf.ndim) + leaf.shape)

    return tuple(jax.tree.map(expand, policy) for policy in policies)


def total(law: Policy, terms: jax.Array) -> jax.Array:
    """The sum over outcomes of ``terms [..., K]``, or the integral for which they stand."""
    if not law.continuous:
        return jnp.sum(terms, axis=-1)
    return lattice_sum(terms, jnp.broadcast_to(law.probs, terms.shape))
