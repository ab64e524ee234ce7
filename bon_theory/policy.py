r"""The one data type: a law over outcomes that carry a reward.

A discrete law lists its outcomes. A continuous, tie-free law lists quadrature nodes in the rank
:math:`u = F(r)`: the outcomes are then nodes and the probabilities their weights, and every sum
over outcomes is an integral. Nothing downstream needs to know which of the two it is given, except
where an integrand has kinks or a distribution function is to be had from masses alone.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import (
    Numbers,
    first_bad,
    float_array,
    is_concrete,
    real_array,
    require,
    reward_array,
    shown,
    untraced,
)
from bon_theory._numerics import log_normalised, namespace, numpy_or_program, one_program
from bon_theory._quantile import DEFAULT_NODES, quantile_nodes
from bon_theory._reward_cdf import reward_log_cdf

__all__ = ["Policy"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Policy:
    r"""A law over outcomes with rewards; a frozen pytree, made by the constructors below.

    Attributes:
        log_probs: :math:`\log \pi(y)`, shape ``[..., K]``, natural logarithms; ``-inf`` is allowed.
            For a continuous law these are the logarithms of the quadrature weights.
        rewards: :math:`r(y)`, shape ``[..., K]``, in any order; equal rewards are ties.
        ranks: ``(log_cdf_below, log_cdf)``: the constructors sort once, a rank selection bends what
            they found, and every law that the library returns has them, so that all laws on the
            same outcomes are pytrees of one structure. ``None`` where they would be computed for
            nothing: inside programs that ask for none, and while differentiating outside ``jit``.
        continuous: whether outcomes are quadrature nodes (static; not a leaf).

    Leading axes are batch axes. A selection maps a policy to a policy on the same outcomes, so two
    policies can be compared outcome by outcome.

    Example:
        >>> import bon_theory as bt
        >>> reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
        >>> reference.num_outcomes
        3
        >>> [round(float(p), 3) for p in bt.best_of_n(reference, n=3).probs]
        [0.125, 0.387, 0.488]

    The distribution function of the reward is all that best-of-n looks at ([G] §2, [B] §3); see
    the notation page of the documentation for the letters in brackets.
    """

    log_probs: jax.Array
    rewards: jax.Array
    ranks: tuple[jax.Array, jax.Array] | None = None
    continuous: bool = dataclasses.field(default=False, metadata={"static": True})

    def __repr__(self) -> str:
        """Kind, outcomes, batch, rewards and dtype on one line, without computing anything."""
        return f"Policy({', '.join(self._summary())})"

    def _repr_html_(self) -> str:
        """The line of ``repr`` for notebooks, escaped."""
        return f"<b>Policy</b> <span>{html.escape(', '.join(self._summary()))}</span>"

    def _summary(self) -> list[str]:
        """Kind, outcomes, batch, dtype, and the range of the reward where it can be seen."""
        shape = getattr(self.log_probs, "shape", None)
        if not shape:  # a transformation may put anything into a pytree
            return [shown(self.log_probs)]
        kind = "continuous" if self.continuous else "discrete"
        parts = [kind, f"{shape[-1]} {'nodes' if self.continuous else 'outcomes'}"]
        parts += [f"batch {shape[:-1]}"] if shape[:-1] else []
        if isinstance(self.rewards, jax.Array) and is_concrete(self.rewards) and self.rewards.size:
            rewards = np.asarray(self.rewards)
            parts.append(f"rewards {rewards.min():.4g} to {rewards.max():.4g}")
        return [*parts, str(self.log_probs.dtype)]

    @property
    def probs(self) -> jax.Array:
        """Probabilities (quadrature masses for a continuous law), shape ``[..., K]``."""
        return jnp.exp(self.log_probs)

    @property
    def log_cdf_below(self) -> jax.Array:
        r""":math:`\log F(r(y)-)`, the probability of a strictly smaller reward, ``[..., K]``."""
        return self.with_ranks().ranks[0]  # pyright: ignore[reportOptionalSubscript]

    @property
    def log_cdf(self) -> jax.Array:
        r""":math:`\log F(r(y))`, the probability of a reward at most as large, ``[..., K]``.

        As a logarithm it is accurate in both tails. It equals ``log_cdf_below`` for a continuous
        law.
        """
        return self.with_ranks().ranks[1]  # pyright: ignore[reportOptionalSubscript]

    @property
    def num_outcomes(self) -> int:
        """K, the number of outcomes (nodes for a continuous law)."""
        return self.log_probs.shape[-1]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """The leading axes, one law each; ``()`` for a single law."""
        return self.log_probs.shape[:-1]

    @property
    def dtype(self) -> Any:
        """The floating-point type in which everything about this policy is computed."""
        return self.log_probs.dtype

    @staticmethod
    def from_probs(probs: Numbers, rewards: Numbers) -> Policy:
        r"""A discrete law from probabilities and rewards.

        Args:
            probs: :math:`\pi(y) \ge 0`, floating point, shape ``[..., K]``, summing to one along
                the last axis up to rounding (within the square root of the machine precision);
                what is left of rounding is divided out.
            rewards: :math:`r(y)`, finite, broadcastable to the same shape, converted to the dtype
                of ``probs`` (rewards that it cannot tell apart become ties).

        Raises:
            ValueError: a probability is negative or NaN, a sum is not one, a reward is not finite,
                integers or half-precision numbers are given for probabilities, or the shapes do
                not match. While tracing, only dtypes and shapes are checked, and a law with
                inadmissible values is NaN throughout.

        Example:
            >>> import bon_theory as bt
            >>> policy = bt.Policy.from_probs([0.25, 0.75], rewards=[0.0, 1.0])
            >>> round(float(bt.expected_reward(policy)), 4)
            0.75
        """
        probs = float_array("probs", probs)
        require(
            lambda: np.asarray(probs) >= 0,
            lambda: (
                f"probs must be non-negative numbers, got {first_bad(probs, lambda p: p >= 0)}: "
                "pass Policy.from_logits for unnormalised logarithms."
            ),
            probs,
        )
        tolerance = float(jnp.finfo(probs.dtype).eps) ** 0.5
        require(
            lambda: np.abs(np.asarray(probs).sum(-1) - 1) <= tolerance,
            lambda: (
                "probs must sum to one along the last axis, got "
                f"{np.asarray(probs).sum(-1).ravel()[:4]}: "
                "divide by the sum first, or use Policy.from_logits(jnp.log(probs), rewards)."
            ),
            probs,
        )
        return _discrete(log_normalised(untraced(probs)), rewards)

    @staticmethod
    def from_logits(logits: Numbers, rewards: Numbers) -> Policy:
        r"""A discrete law :math:`\pi(y) \propto e^{\mathrm{logits}(y)}`; ``-inf`` is probability 0.

        Args:
            logits: unnormalised log-probabilities, floating point, ``[..., K]``; at least one
                finite. They belong to *all* outcomes, each listed once. The log-probabilities of
                answers that were *sampled* do not belong here: samples are already as frequent as
                they are probable, and would be weighted twice. Their rewards go to
                :meth:`from_samples`.
            rewards: finite, broadcastable to the same shape.

        Raises:
            ValueError: a logit is NaN or ``+inf``, all are ``-inf`` (an empty support), a reward is
                not finite, or the shapes do not match.

        Example:
            >>> import bon_theory as bt
            >>> bt.Policy.from_logits([0.0, 0.0], rewards=[1.0, 2.0]).probs.tolist()
            [0.5, 0.5]
        """
        logits = float_array("logits", logits)
        require(
            lambda: np.asarray(logits) < np.inf,
            lambda: (
                f"logits must be less than +inf, got {first_bad(logits, lambda x: x < np.inf)}: "
                "mask outcomes with -inf and keep the rest finite."
            ),
            logits,
        )
        require(
            lambda: np.max(np.asarray(logits), axis=-1) > -np.inf,
            lambda: "logits are all -inf, so the support is empty: give at least one finite logit.",
            logits,
        )
        return _discrete(_log_softmax(untraced(logits)), rewards)

    @staticmethod
    def from_samples(rewards: Numbers) -> Policy:
        r"""The empirical law of observed rewards: mass :math:`1/K` on each of ``rewards [..., K]``.

        A selection from it draws from the K rewards *with replacement*: it is exact for the pool,
        but for the model that the rewards were drawn from it is biased towards less selection,
        unless :math:`n` is much smaller than :math:`K`. The best of 64 of 120 scores can be no
        higher than their highest, whatever the model's tail. For the model, use the subsets of
        :mod:`bon_theory.pools`.

        Args:
            rewards: finite, any real type: integers, booleans and half precision are converted.

        Raises:
            ValueError: a reward is not finite, or there is none.

        Example:
            >>> import bon_theory as bt
            >>> pool = bt.Policy.from_samples([0.1, 0.7, 0.7, 0.4])
            >>> round(float(bt.expected_reward(bt.best_of_n(pool, n=2))), 6)
            0.60625
        """
        rewards = real_array("rewards", rewards)
        size = rewards.shape[-1]
        return _discrete(np.full(rewards.shape, -np.log(size), rewards.dtype), rewards)

    @staticmethod
    def from_quantile(
        quantile: Callable[[jax.Array], jax.Array],
        survival_quantile: Callable[[jax.Array], jax.Array] | None = None,
        *,
        num_nodes: int = DEFAULT_NODES,
        breaks: tuple[float, ...] = (),
    ) -> Policy:
        r"""A continuous, tie-free law from its quantile function :math:`u \mapsto F^{-1}(u)`.

        The rank :math:`u` is discretised by a trapezoidal rule in its log-odds on
        :math:`[-80, 80]`. Rank selections are then exact to rounding. For a selection that weighs
        rewards by :math:`e^{r/\lambda}` the spacing must resolve the weight: the error is about
        :math:`e^{-\pi^2/\Delta}` where :math:`\Delta` is the largest change of :math:`r/\lambda`
        between neighbouring nodes of non-negligible mass; raise ``num_nodes`` in proportion to
        :math:`1/\lambda`. So must the reward itself be resolved where it is averaged.
        :func:`~bon_theory.quadrature_error` estimates what the nodes leave of any number.

        Args:
            quantile: increasing function of an array of ranks in (0, 1).
            survival_quantile: :math:`s \mapsto F^{-1}(1 - s)`, used for :math:`u > 1/2`. Give it
                when the reward is unbounded above: ranks within 1e-16 of one are not representable.
                Without it ranks are cut off at the largest number below one.
            num_nodes: nodes per panel (static).
            breaks: ranks in (0, 1), ascending, at which a later selection has a jump or kink, such
                as ``1 - fraction`` for :func:`top_fraction` (static). Jumps of the quantile
                function itself, gaps in the support, are found and need not be given, unless its
                values are traced, or several jumps are so close to each other, or one so small,
                that it is less than half of the rise between two nodes.

        Raises:
            ValueError: ``breaks`` are not ascending in (0, 1), ``num_nodes < 321``, or the quantile
                function decreases, is not finite, or jumps more than 16 times.

        Example:
            >>> import jax.numpy as jnp
            >>> import bon_theory as bt
            >>> logistic = bt.Policy.from_quantile(lambda u: jnp.log(u) - jnp.log1p(-u),
            ...                                    lambda s: jnp.log1p(-s) - jnp.log(s))
            >>> round(float(bt.expected_reward(bt.best_of_n(logistic, n=2))), 5)
            1.0
        """
        log_weights, rewards, log_cdf = quantile_nodes(
            quantile, survival_quantile, num_nodes=num_nodes, breaks=breaks
        )
        return Policy(log_weights, rewards, (log_cdf, log_cdf), continuous=True)

    @staticmethod
    def uniform_reward(*, num_nodes: int = DEFAULT_NODES, breaks: tuple[float, ...] = ()) -> Policy:
        r"""The calibrated reward, uniform on (0, 1): every tie-free reward in rank units.

        Takes the keywords of :meth:`from_quantile` and raises as it does.

        Example:
            >>> import bon_theory as bt
            >>> round(float(bt.win_rate(bt.best_of_n(bt.Policy.uniform_reward(), n=4),
            ...                         bt.Policy.uniform_reward())), 6)
            0.8
        """
        return Policy.from_quantile(
            lambda u: u, lambda s: 1 - s, num_nodes=num_nodes, breaks=breaks
        )

    @staticmethod
    def gaussian_reward(
        *, num_nodes: int = DEFAULT_NODES, breaks: tuple[float, ...] = ()
    ) -> Policy:
        r"""A standard normal reward.

        Takes the keywords of :meth:`from_quantile` and raises as it does.

        Example:
            >>> import bon_theory as bt
            >>> best = bt.best_of_n(bt.Policy.gaussian_reward(), n=2)
            >>> round(float(bt.expected_reward(best)), 5)  # 1/sqrt(pi)
            0.56419
        """
        return Policy.from_quantile(
            _ndtri, lambda s: -_ndtri(s), num_nodes=num_nodes, breaks=breaks
        )

    @staticmethod
    def exponential_reward(
        *, num_nodes: int = DEFAULT_NODES, breaks: tuple[float, ...] = ()
    ) -> Policy:
        r"""A standard exponential reward; its tilt exists only for ``temperature > 1``.

        Takes the keywords of :meth:`from_quantile` and raises as it does.

        Example:
            >>> import bon_theory as bt
            >>> best = bt.best_of_n(bt.Policy.exponential_reward(), n=3)
            >>> round(float(bt.expected_reward(best)), 5)  # 1 + 1/2 + 1/3
            1.83333
        """
        return Policy.from_quantile(
            lambda u: -jnp.log1p(-u), lambda s: -jnp.log(s), num_nodes=num_nodes, breaks=breaks
        )

    def with_log_ratio(
        self, log_ratio: jax.Array, ranks: tuple[jax.Array, jax.Array] | None = None
    ) -> Policy:
        r"""The law :math:`P(y) = \pi(y) e^{\mathrm{log\_ratio}(y)}` on the same outcomes.

        ``log_ratio [..., K]`` may be ``-inf``; it is not normalised. The distribution function of
        the reward follows from the masses unless its logarithms, below and at each reward, are
        given; it is left out where this law is without it.

        Example:
            >>> import jax.numpy as jnp
            >>> import bon_theory as bt
            >>> reference = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
            >>> reference.with_log_ratio(jnp.log(jnp.array([0.5, 1.5]))).probs.tolist()
            [0.25, 0.75]

        Derived here (bookkeeping; no published counterpart).
        """
        log_probs = self.log_probs + log_ratio
        rewards = jnp.broadcast_to(self.rewards, log_probs.shape)
        policy = Policy(log_probs, rewards, ranks, self.continuous)
        return policy if self.ranks is None else policy.with_ranks()

    def without_ranks(self) -> Policy:
        """The same law without its distribution function, for programs that do not look at it.

        Example:
            >>> import bon_theory as bt
            >>> reference = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
            >>> reference.without_ranks().ranks is None
            True

        Derived here (bookkeeping; no published counterpart).
        """
        return dataclasses.replace(self, ranks=None)

    def with_ranks(self) -> Policy:
        """The same law with its distribution function, computed unless it is there.

        Example:
            >>> import bon_theory as bt
            >>> reference = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
            >>> reference.without_ranks().with_ranks().ranks is None
            False

        Derived here (bookkeeping; no published counterpart).
        """
        if self.ranks is not None:
            return self
        ranks = reward_log_cdf(self.log_probs, self.rewards, self.continuous)
        return dataclasses.replace(self, ranks=ranks)


_ndtri = one_program(jax.scipy.special.ndtri)


def _discrete(log_probs: jax.Array | np.ndarray, rewards: Numbers) -> Policy:
    """The law of logarithms that sum to one, its rewards checked and its ranks found."""
    scores = reward_array(rewards, log_probs.shape, log_probs.dtype)
    shape = jnp.broadcast_shapes(log_probs.shape, scores.shape)
    if is_concrete(log_probs, scores):
        masses, scores = (
            jax.device_put(np.broadcast_to(array, shape)) for array in (log_probs, scores)
        )
    else:  # a traced reward can still be inadmissible, and sorting must not rank it
        admissible = jnp.all(jnp.isfinite(scores), axis=-1, keepdims=True)
        masses = jnp.broadcast_to(jnp.where(admissible, log_probs, jnp.nan), shape)
        scores = jnp.broadcast_to(scores, shape)
    return Policy(masses, scores, reward_log_cdf(masses, scores))


@numpy_or_program
def _log_softmax(logits: jax.Array) -> jax.Array:
    xp = namespace(logits)
    if xp is jnp:
        return jax.nn.log_softmax(logits)
    below_top = logits - np.max(logits, axis=-1, keepdims=True)
    return below_top - np.log(np.sum(np.exp(below_top), axis=-1, keepdims=True))
