r"""Drafts: selection from a proposal other than the reference, such as a cheaper or hotter model.

A rule that looks at rewards alone is the same rule on the proposal: ``best_of_n(proposal, n)`` is
best-of-n of drafts, and its divergences to the reference are ``kl_divergence(policy, reference)``
and its kin. Soft best-of-n is to aim at the reference's own tilt, so that each draft is weighed by
:math:`e^{r/\lambda}\,\pi/q`, importance and all:

.. math:: \tilde r = r + \lambda \log \frac{\pi}{q}, \qquad
          q\,e^{\tilde r/\lambda} = \pi\,e^{r/\lambda},

one soft best-of-n law on :math:`q`, with all its bounds: :math:`\mathrm{KL}(P^*\|P_n) \le
\log(1 + \chi^2/n)` with :math:`\chi^2 = \chi^2(P^*\|q) \le e^{2(\max r - \min r)/\lambda}
(1 + \chi^2(\pi\|q)) - 1`. What the proposal never draws cannot be kept: where it lacks outcomes of
the reference, divergences *from* the reference or its tilt are infinite at any :math:`n`; where the
reference lacks outcomes of the proposal, that of the policy from the reference is, unless
:math:`\tilde r = -\infty` keeps them out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers
from bon_theory._laws import aligned, require_policy, require_same_outcomes
from bon_theory._numerics import NOTHING, log_sum_exp
from bon_theory._ragged import law_program
from bon_theory.policy import Policy
from bon_theory.selection import soft_best_of_n
from bon_theory.selection.parameters import Real, aligned_parameters, float_limits

__all__ = ["GuidedDraft", "guided_draft", "soft_best_of_drafts", "tempered", "truncated"]


def tempered(policy: Policy, temperature: Numbers) -> Policy:
    r"""The law :math:`\propto \pi^{1/T}`: hotter than :math:`\pi` for :math:`T > 1`.

    Args:
        policy: :math:`\pi`, discrete.
        temperature: :math:`T > 0`, of the sampler; ``inf`` is uniform on what is possible.

    Raises:
        ValueError: ``temperature`` is not positive, or the law is continuous.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> [round(float(p), 4) for p in bt.tempered(reference, 2.0).probs]
        [0.4155, 0.3218, 0.2628]

    Standard.
    """
    _require_discrete("policy", policy)
    policy, heat = aligned_parameters(
        policy, temperature=Real(temperature, _least(policy), finite=False)
    )
    return _tempered(policy, heat)


def truncated(policy: Policy, mass: Numbers) -> Policy:
    r"""The law given one of its most likely outcomes, the fewest of at least a mass (top-p).

    .. math:: q(y) \propto \pi(y)\, 1\Bigl\{\sum_{z : \pi(z) > \pi(y)} \pi(z) < p\Bigr\}

    Args:
        policy: :math:`\pi`, discrete.
        mass: :math:`p \in (0, 1]`. Outcomes that tie with the last one kept are kept.

    Raises:
        ValueError: ``mass`` is not in (0, 1], or the law is continuous.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> bt.truncated(reference, mass=0.75).probs.tolist()
        [0.625, 0.375, 0.0]

    Standard (nucleus sampling).
    """
    _require_discrete("policy", policy)
    policy, kept = aligned_parameters(policy, mass=Real(mass, _least(policy), at_most=1))
    return _truncated(policy, kept)


def soft_best_of_drafts(
    reference: Policy, n: Numbers, temperature: Numbers, *, proposal: Policy
) -> Policy:
    r"""Soft best-of-n of drafts from the proposal, each weighed by :math:`e^{r/\lambda}\,\pi/q`.

    Tends to the reference's :func:`exponential_tilt` on what the proposal can draw. Drafts that are
    impossible under the reference lose to all others, and are kept where there are no others.

    Args:
        reference: :math:`\pi`, discrete; its rewards count.
        n: number of drafts, real, as for :func:`soft_best_of_n`.
        temperature: :math:`\lambda > 0`, in units of the reward; ``inf`` is sampling importance
            resampling, which aims at the reference. (At 0 it is ``best_of_n(proposal, n)``.)
        proposal: :math:`q`, the law of one draft, on the same outcomes.

    Raises:
        ValueError: as :func:`soft_best_of_n` does; ``temperature`` is 0; the laws are continuous or
            not on the same outcomes.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> hotter = bt.tempered(reference, 2.0)
        >>> policy = bt.soft_best_of_drafts(reference, 4, 0.5, proposal=hotter)
        >>> tilt = bt.exponential_tilt(reference, 0.5)
        >>> own = bt.soft_best_of_n(reference, 4, 0.5)
        >>> [round(float(bt.kl_divergence(tilt, law)), 4) for law in (policy, own)]
        [0.0163, 0.0366]

    [GSI] for the corrected reward; the law is [V] Lemma 1 on the proposal.
    """
    reference, proposal, lam = _checked(
        reference, proposal, temperature=Real(temperature, _least(reference), finite=False)
    )
    policy = soft_best_of_n(_scored(reference, proposal, lam), n, 1.0)
    return _earning(policy, reference)


class GuidedDraft(NamedTuple):
    r"""What a two-stage rule keeps, and what that costs.

    Attributes:
        policy: the law of what is kept.
        accepted: the probability that it is a draft.
        target_draws: draws from the reference on average, :math:`n` each time that no draft is
            kept; drafts are :math:`n` always, and all are scored by both models.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> found = bt.guided_draft(reference, 4, 0.5, 0.4, proposal=bt.tempered(reference, 2.0))
        >>> round(float(found.accepted), 4), round(float(found.target_draws), 4)
        (0.7673, 0.9308)

    Derived here.
    """

    policy: Policy
    accepted: jax.Array
    target_draws: jax.Array


def guided_draft(
    reference: Policy, n: Numbers, temperature: Numbers, threshold: Numbers, *, proposal: Policy
) -> GuidedDraft:
    r"""Soft best-of-n of drafts, kept if good enough; otherwise of draws from the reference.

    .. math:: P(y) = \tilde P(y)\, 1\{\tilde r(y) \ge u\}
              + \tilde P(\tilde r < u)\, P_\pi(y), \qquad \tilde r = r + \lambda \log \frac{\pi}{q}

    with :math:`\tilde P` the law of :func:`soft_best_of_drafts` and :math:`P_\pi` that of
    :func:`soft_best_of_n` on the reference. With more and more draws it tends to :math:`P^*` where
    all drafts are kept or none is, and in between to a law that favours what is accepted: with
    :math:`\rho = P^*(\tilde r < u)`,

    .. math:: \frac{P}{P^*} \to 1\{\tilde r \ge u\} + \rho, \quad
              \mathrm{TV} \to \rho (1 - \rho), \quad
              \mathrm{KL}(P^*\|P) \to -(1 - \rho) \log(1 + \rho) - \rho \log \rho.

    Args:
        reference: :math:`\pi`, the target model, discrete; its rewards count.
        n: number of drafts, and of draws where none is kept, real.
        temperature: :math:`\lambda > 0`, finite, in units of the reward.
        threshold: :math:`u`, in units of the reward; ``-inf`` keeps every draft, ``inf`` none.
        proposal: :math:`q`, the law of one draft, on the same outcomes.

    Raises:
        ValueError: as :func:`soft_best_of_drafts` does; ``threshold`` is NaN.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> cheap = bt.Policy.from_probs([0.7, 0.2, 0.1], rewards=[0.0, 0.5, 1.0])
        >>> tilt = bt.exponential_tilt(reference, 0.5)
        >>> found = bt.guided_draft(reference, 1e6, 0.5, threshold=0.5, proposal=cheap)
        >>> rho = float(tilt.probs[0])  # the first outcome's score is below the threshold
        >>> round(float(bt.total_variation(found.policy, tilt)), 6), round(rho * (1 - rho), 6)
        (0.146959, 0.146959)

    [GSI] eq. 3 and its algorithm; the limits are derived here.
    """
    reference, proposal, count, lam, bar = _checked(
        reference,
        proposal,
        n=Real(n, at_least=1),
        temperature=Real(temperature, _least(reference)),
        threshold=Real(threshold, at_least=-np.inf, finite=False),
    )
    drafts = soft_best_of_n(_scored(reference, proposal, lam), count[..., 0], 1.0)
    draws = soft_best_of_n(reference, count[..., 0], lam[..., 0])
    policy, accepted, rejected = _two_stages(reference, proposal, drafts, draws, lam, bar)
    return GuidedDraft(policy, accepted, count[..., 0] * rejected)


def _checked(reference: Policy, proposal: Policy, **parameters: Real) -> tuple[Any, ...]:
    """Both laws and the parameters, all of one rank."""
    require_same_outcomes(reference, "proposal", proposal)
    _require_discrete("reference", reference)
    reference, *checked = aligned_parameters(reference, **parameters)
    reference, proposal = aligned(reference, proposal)
    ndim = reference.log_probs.ndim
    return reference, proposal, *(a.reshape((1,) * (ndim - a.ndim) + a.shape) for a in checked)


def _least(reference: Policy) -> float:
    return float(float_limits(reference).tiny)


def _require_discrete(name: str, policy: Policy) -> None:
    require_policy(name, policy)
    if policy.continuous:
        raise ValueError(
            f"{name} must be discrete, got a continuous law, whose nodes are no drafts: "
            "discretise it, for instance Policy.from_samples(quantiles of the reward)."
        )


@law_program
def _tempered(policy: Policy, heat: jax.Array) -> Policy:
    possible = policy.log_probs > -jnp.inf
    logits = jnp.where(possible, policy.log_probs, 0) / heat
    log_probs = jax.nn.log_softmax(jnp.where(possible, logits, -jnp.inf), axis=-1)
    return policy.without_ranks().with_log_ratio(
        jnp.where(possible, log_probs - jnp.where(possible, policy.log_probs, 0), 0)
    )


@law_program
def _truncated(policy: Policy, mass: jax.Array) -> Policy:
    order = jnp.argsort(-policy.log_probs, axis=-1)
    falling = jnp.take_along_axis(policy.probs, order, axis=-1)
    before = jnp.cumsum(falling, axis=-1) - falling
    # Equally likely outcomes are kept or dropped together.
    first = jnp.pad(falling[..., 1:] < falling[..., :-1], _front(falling), constant_values=True)
    before = jax.lax.cummax(jnp.where(first, before, 0), axis=falling.ndim - 1)
    keeps = (before < mass) | (mass >= 1)
    order = jnp.broadcast_to(order, keeps.shape)
    kept = jnp.put_along_axis(jnp.zeros_like(keeps), order, keeps, axis=-1, inplace=False)
    log_kept = log_sum_exp(jnp.where(kept, policy.log_probs, -jnp.inf), axis=-1)[..., None]
    log_ratio = jnp.where(jnp.isnan(mass), jnp.nan, jnp.where(kept, -log_kept, -jnp.inf))
    return policy.without_ranks().with_log_ratio(log_ratio)


def _front(x: jax.Array) -> list[tuple[int, int]]:
    return [(0, 0)] * (x.ndim - 1) + [(1, 0)]


@law_program
def _scored(reference: Policy, proposal: Policy, lam: jax.Array) -> Policy:
    """The proposal with the corrected reward over λ, which is far below all others at π = 0."""
    possible = reference.log_probs > -jnp.inf
    drawn = possible & (proposal.log_probs > -jnp.inf)
    ratio = jnp.where(drawn, reference.log_probs - proposal.log_probs, 0)
    score = reference.rewards / lam + ratio
    lowest = jnp.min(jnp.where(drawn, score, jnp.inf), axis=-1, keepdims=True)
    lowest = jax.lax.stop_gradient(jnp.where(lowest < jnp.inf, lowest, 0))
    score = jnp.where(drawn, score, jnp.where(possible, lowest, lowest - _gap(reference)))
    log_probs = jnp.broadcast_to(proposal.log_probs, score.shape)
    return Policy(log_probs, score, None, False)


def _gap(policy: Policy) -> float:
    """Beyond what any number of candidates bridges."""
    return 1e6 if policy.dtype == jnp.float64 else 1e3


@law_program
def _earning(policy: Policy, reference: Policy) -> Policy:
    rewards = jnp.broadcast_to(reference.rewards, policy.log_probs.shape)
    return Policy(policy.log_probs, rewards, None, False)


@law_program
def _two_stages(
    reference: Policy,
    proposal: Policy,
    drafts: Policy,
    draws: Policy,
    lam: jax.Array,
    bar: jax.Array,
) -> tuple[Policy, jax.Array, jax.Array]:
    possible = reference.log_probs > -jnp.inf
    drawn = possible & (proposal.log_probs > -jnp.inf)
    ratio = jnp.where(drawn, reference.log_probs - proposal.log_probs, 0)
    corrected = jnp.where(possible, reference.rewards + lam * ratio, -jnp.inf)
    good = corrected >= bar
    log_kept = jnp.where(good, drafts.log_probs, -jnp.inf)
    log_rejected = log_sum_exp(jnp.where(good, -jnp.inf, drafts.log_probs), axis=-1)[..., None]
    either = jnp.broadcast_arrays(log_kept, log_rejected + draws.log_probs)
    log_probs = log_sum_exp(jnp.stack(either), axis=0)
    log_probs = jnp.where(log_probs < 0.5 * NOTHING, -jnp.inf, log_probs)
    unknown = jnp.isnan(bar) | jnp.any(jnp.isnan(log_probs), axis=-1, keepdims=True)
    log_probs = jnp.where(unknown, jnp.nan, log_probs)
    rewards = jnp.broadcast_to(reference.rewards, log_probs.shape)
    accepted = jnp.sum(jnp.exp(jnp.where(unknown, jnp.nan, log_kept)), axis=-1)
    rejected = jnp.exp(jnp.where(unknown, jnp.nan, log_rejected))[..., 0]
    policy = Policy(log_probs, rewards, None, False)
    return policy, jnp.minimum(accepted, 1), jnp.minimum(rejected, 1)
