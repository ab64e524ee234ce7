r"""Sequential Monte Carlo: N sequences grow together, and those that earn little are dropped.

Of :math:`N` particles each draws a block from where its ancestor ended; then :math:`N` ancestors
are drawn among them with probability :math:`\propto w`, the block's weight, and so on; in the end
one particle is kept, again :math:`\propto w`. With :math:`w = e^{r/\lambda}` this aims at the
optimum :math:`P^*(x^m) \propto \pi(x^m) e^{R(x^m)/\lambda}`, whatever the reference remembers; with
a value of the end, :math:`w = e^{(r + v(s') - v(s))/\lambda}`, it looks ahead (a *twist*). One
block is whole-sequence soft best-of-N; of i.i.d. blocks, whose particles do not care who their
ancestor is, it is soft best-of-N block by block.

What one path is, in terms of *conditional* SMC, which runs the other :math:`N - 1` particles beside
a path :math:`x^m` that is always kept: with :math:`\hat Z = \prod_t \frac1N \sum_i w_t^i` and
:math:`Z = E_\pi e^{R/\lambda}`,

.. math:: P_N(x^m) = P^*(x^m)\, E\Bigl[\frac{Z}{\hat Z} \Bigm| x^m\Bigr].

By Jensen's inequality, twice, and as a conditional run around :math:`x^m \sim P^*` is a run
weighed by :math:`\hat Z/Z`,

.. math:: \mathrm{KL}(P^*\|P_N) \le E\Bigl[\frac{\hat Z}{Z} \log \frac{\hat Z}{Z}\Bigr]
          \le \log E\Bigl(\frac{\hat Z}{Z}\Bigr)^2,

of one block :math:`\log(1 + \chi^2/N)`. Two particles tell the second moment: with
:math:`q = P^*_t(\cdot | s)` and :math:`\kappa(s, s') = \sum_k q^2/\pi` over the levels of reward
in a block from :math:`s` to :math:`s'`, the weights :math:`\Gamma_t(a, b)` of two particles that
end in :math:`a` and :math:`b`, counted by what they are worth under :math:`P^*`, obey

.. math:: \Gamma'(c, d) = \Bigl(1 - \frac1N\Bigr) \sum_{a,b} \Gamma(a, b)\, q(c|a)\, q(d|b)
          + \frac{\delta_{cd}}{N} \sum_{a,b} \Gamma(a, b)\, \frac{\rho(a)}{\rho(b)}\, \kappa(a, c),

the two being one particle with probability :math:`1/N`; :math:`\rho = e^{(v^* - v)/\lambda}` is
what a state is worth beyond the value that it was given. The sum over :math:`\Gamma` after the last
block is :math:`E(\hat Z/Z)^2`. Derived here.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy
from numpy.typing import NDArray

from bon_theory._arguments import Numbers, is_concrete, positive, scalar, whole_number
from bon_theory._numerics import safe_log
from bon_theory.policy import Policy
from bon_theory.sequence.convolution import log_sum
from bon_theory.sequence.enumerated import all_words, enumerated
from bon_theory.sequence.law import SequenceLaw, checked_values, require_law
from bon_theory.sequence.look_ahead import look_ahead as exact_values
from bon_theory.sequence.look_ahead import optimum

__all__ = ["particle_bound", "particle_law"]

Array = NDArray[np.float64]
Counts = NDArray[np.intp]
Values = tuple[jax.Array, ...]

_MOST_TERMS = 2**25


def particle_bound(
    reference: SequenceLaw, n: Numbers, temperature: Numbers, *, look_ahead: Values | None = None
) -> jax.Array:
    r""":math:`\log E(\hat Z/Z)^2`, above the divergence of :math:`N` particles from the optimum.

    :math:`\mathrm{KL}(P^*\|P_N)` is at most this, of any length; it falls like :math:`1/N` in the
    end, but neither of them need fall from the start: where a reward that comes early is paid for
    later, a few particles can be worse than one. Ancestors are drawn after every block: a
    ``block_length`` of 1 is the usual filter, and ``None`` has :math:`\log(1 + \chi^2/N)` of the
    whole sequence.

    Args:
        reference: i.i.d. or Markov, in blocks.
        n: :math:`N`, real, at least 1; a scalar.
        temperature: :math:`\lambda > 0`; a scalar.
        look_ahead: values of the ends as for :meth:`SequenceLaw.select`, a twist; none by default.

    Raises:
        ValueError: ``n < 1`` or not finite; ``temperature`` is not positive and finite; one of them
            is not a scalar, or ``look_ahead`` has not the shapes that it must have.

    Example:
        >>> from bon_theory import sequence
        >>> chain = sequence.MarkovChain.from_probs(
        ...     [0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [0.0, 1.0])
        >>> reference = sequence.SequenceLaw.markov(chain, length=32, block_length=1)
        >>> values = sequence.look_ahead(reference, temperature=1.0)
        >>> for twist in (None, values):
        ...     bound = sequence.particle_bound(reference, 64, 1.0, look_ahead=twist)
        ...     print(round(float(bound), 4))
        0.1682
        0.1436

    Derived here (the recursion of the module).
    """
    require_law("reference", reference)
    target = optimum(reference, temperature)  # also checks λ
    dtype = reference.stretches[0].policy.dtype
    lam = positive("temperature", temperature, dtype)
    number = scalar("n", n, dtype, at_least=1)
    if number.ndim:
        raise ValueError(f"n must be a scalar, got shape {number.shape}: use jax.vmap.")
    worth = exact_values(reference, temperature)
    values = worth if look_ahead is None else checked_values(reference, look_ahead)
    beyond = worth if look_ahead is None else [x - v for x, v in zip(worth, values, strict=True)]
    return _log_second_moment(reference, target, number, [x / lam for x in beyond])


@jax.jit
def _log_second_moment(
    reference: SequenceLaw, target: SequenceLaw, n: jax.Array, log_beyond: list[jax.Array]
) -> jax.Array:
    """The recursion, with Γ divided by its sum after every block."""
    starts = reference.stretches[0].policy.log_probs.shape[1]
    log_pairs = jnp.full((starts, starts), -jnp.inf, n.dtype).at[-1, -1].set(0)
    rho = jnp.zeros(starts, n.dtype)
    total = jnp.zeros((), n.dtype)
    log_apart, log_same = safe_log(1 - 1 / n), -jnp.log(n)
    for ours, theirs, beyond in zip(reference.stretches, target.stretches, log_beyond, strict=True):
        possible = ours.log_joint > -jnp.inf
        ratio = jnp.where(possible, theirs.log_joint - ours.log_joint, 0)
        log_moves = log_sum(theirs.log_joint, axis=-2)  # [T, S, E]
        log_kappa = log_sum(theirs.log_joint + ratio, axis=-2)
        shape = (ours.count, *log_moves.shape[1:])
        _, states, ends = shape

        def step(
            carry: Any, block: Any, unused: int = states - ends
        ) -> tuple[tuple[jax.Array, ...], None]:
            (log_pairs, rho, total), (moves, kappa, beyond) = carry, block
            parent = log_sum(log_pairs + rho[:, None] - rho[None, :], axis=1)  # [S]
            same = log_sum(parent[:, None] + kappa, axis=0)  # [E]
            apart = log_sum(log_pairs[:, :, None] + moves[None, :, :], axis=1)
            apart = log_sum(apart[:, :, None] + moves[:, None, :], axis=0)
            diagonal = jnp.where(jnp.eye(same.size, dtype=bool), same[:, None], -jnp.inf)
            grown = _log_mean_excess(log_sum(same, axis=0), n)
            pairs = log_sum(jnp.stack([log_apart + apart, log_same + diagonal]), axis=0) - grown
            pairs = jnp.pad(pairs, (0, unused), constant_values=-jnp.inf)
            return (pairs, jnp.pad(beyond, (0, unused)), total + grown), None

        blocks = jnp.broadcast_to(log_moves, shape), jnp.broadcast_to(log_kappa, shape), beyond
        (log_pairs, rho, total), _ = jax.lax.scan(step, (log_pairs, rho, total), blocks)
        log_pairs, rho = log_pairs[:ends, :ends], rho[:ends]
    return total


def _log_mean_excess(log_same: jax.Array, n: jax.Array) -> jax.Array:
    """log(1 + (s − 1)/n) of log s ≥ 0, also where s − 1 is small or s overflows."""
    near = log_same < 30
    small = jnp.log1p(jnp.expm1(jnp.where(near, log_same, 0)) / n)
    far = jnp.logaddexp(jnp.log(n), jnp.where(near, 30, log_same)) - jnp.log(n)
    return jnp.where(near, small, far)


def particle_law(
    reference: SequenceLaw, n: int, temperature: float, *, look_ahead: Values | None = None
) -> Policy:
    r"""The law of one path of :math:`N` particles, over all :math:`K^m` sequences.

    Exact, by enumeration: :math:`E[Z/\hat Z \mid x^m]` of conditional SMC is a sum over how many of
    the other :math:`N - 1` particles are of each kind, block after block. So sequences must be few
    and short, or :math:`N` small; :func:`particle_bound` has no such limit.

    Args:
        reference: i.i.d. or Markov, in blocks; concrete.
        n: :math:`N`, a whole number, at least 1.
        temperature: :math:`\lambda > 0`, a number.
        look_ahead: values of the ends as for :meth:`SequenceLaw.select`, a twist; none by default.

    Returns:
        The law, ``[K^m]``, in the order of :func:`enumerated`.

    Raises:
        ValueError: ``n`` is not a whole number of at least 1, ``temperature`` is not positive and
            finite; there are too many sequences or particles, or something is traced.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import sequence
        >>> chain = sequence.MarkovChain.from_probs(
        ...     [0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [0.0, 1.0])
        >>> reference = sequence.SequenceLaw.markov(chain, length=4, block_length=1)
        >>> optimum = sequence.enumerated(sequence.optimum(reference, temperature=0.5))
        >>> myopic = reference.select(bt.soft_best_of_n, 16, 0.5)
        >>> for law in (sequence.particle_law(reference, 16, 0.5), sequence.enumerated(myopic)):
        ...     print(round(float(bt.kl_divergence(optimum, law)), 4))
        0.0005
        0.1242

    Derived here. The cost is :math:`K^m` times the square of the number of ways to spread
    :math:`N - 1` particles over their kinds: of a symbol :math:`K`, with a twist up to :math:`K^2`.
    """
    require_law("reference", reference)
    number = whole_number("n", n)
    if not is_concrete(reference, temperature, look_ahead):
        raise ValueError(
            "reference, temperature and look_ahead must be concrete for particle_law, got traced "
            "ones: call it outside jit, or use particle_bound."
        )
    lam = float(positive("temperature", temperature, reference.stretches[0].policy.dtype))
    drawn = enumerated(reference)
    words = all_words(reference)
    gains = np.asarray(reference.lattice.levels(reference.reference.rewards))[words]
    blocks = _blocks(reference, lam, look_ahead)
    _require_few(number, blocks, len(words))

    # E[Π w/(mean w); counts of the others] of every beginning of a path, and its last kind.
    paths, kinds = np.ones((1, 1)), np.zeros(1, np.intp)
    came_from = {0: np.ones((1, 1))}
    for block in blocks:
        counts = _ways(number - 1, len(block.log_weights))
        shares = block.shares(counts)
        following = np.empty((len(paths), len(counts)))
        for kind, parents in came_from.items():
            here = kinds == kind
            following[here] = paths[here] @ _multinomial(counts, parents @ block.draw)
        kinds = block.kinds(words, gains)
        came_from = {kind: block.parents(counts, kind) for kind in np.unique(kinds).tolist()}
        paths = np.repeat(following, len(kinds) // len(paths), axis=0) * shares[kinds]
    ratio = np.where(np.asarray(drawn.log_probs) > -np.inf, paths.sum(axis=1), 1)
    with np.errstate(divide="ignore"):
        return drawn.with_log_ratio(jnp.asarray(np.log(ratio), drawn.dtype))


class _Block(NamedTuple):
    """A block to the particles: two of one kind have the same weight and end in the same state.

    Attributes:
        draw: probability of each kind after each start, ``[S, J]``.
        log_weights: ``[J]``.
        ends: state in which each kind ends, ``[J, E]``, 0 or 1.
        table: kind by start, level of reward and end, ``[S, N, E]``.
        place: where it is in a sequence.
    """

    draw: Array
    log_weights: Array
    ends: Array
    table: NDArray[np.intp]
    place: slice

    def shares(self, counts: Counts) -> Array:
        """Weight of the path's own particle over the mean weight, ``[J, C]``."""
        own = self.log_weights[:, None]
        others = np.asarray(scipy.special.logsumexp(self.log_weights, b=counts, axis=1))
        return np.exp(own - np.logaddexp(own, others)) * (1 + counts[0].sum())

    def parents(self, counts: Counts, own: int) -> Array:
        """Which state an ancestor has ended in, beside an ``own`` particle of that kind, [C, E]."""
        counts = counts + (np.arange(len(self.log_weights)) == own)
        highest = np.where(counts > 0, self.log_weights, -np.inf).max(axis=1, keepdims=True)
        weights = counts * np.exp(np.minimum(self.log_weights - highest, 0))
        return weights @ self.ends / weights.sum(axis=1, keepdims=True)

    def kinds(self, words: NDArray[np.intp], gains: NDArray[np.intp]) -> NDArray[np.intp]:
        """The kind of this block in every path so far, all ``[K^m, m]`` of them in order."""
        starts, _, ends = self.table.shape
        num_symbols = words.max() + 1
        step = num_symbols ** (words.shape[1] - self.place.stop)
        start = words[::step, self.place.start - 1] if starts > 1 else 0
        end = words[::step, self.place.stop - 1] if ends > 1 else 0
        return self.table[start, gains[::step, self.place].sum(axis=1), end]


def _blocks(law: SequenceLaw, lam: float, look_ahead: Values | None) -> list[_Block]:
    """What particles meet, block after block."""
    if look_ahead is None:
        values = [np.zeros((s.count, s.num_ends)) for s in law.stretches]
    else:
        values = [np.asarray(v, np.float64) for v in checked_values(law, look_ahead)]
    found: list[_Block] = []
    before, place = np.zeros(1), 0
    for stretch, after in zip(law.stretches, values, strict=True):
        joint = np.exp(np.asarray(stretch.log_joint, np.float64))
        joint = np.broadcast_to(joint, (stretch.count, *joint.shape[1:]))
        for here, value in zip(joint, after, strict=True):
            # The sequence starts from the last state, a later block from where one ended.
            chances = here[: len(before)] if found else here[-1:]
            rewards = np.asarray(stretch.rewards, np.float64)[0, 0]
            log_weights = (rewards[None] + value - before[:, None, None]) / lam
            stop = min(place + law.block_length, law.length)
            found.append(_block(chances, log_weights, slice(place, stop)))
            before, place = value, stop
    return found


def _block(chances: Array, log_weights: Array, place: slice) -> _Block:
    possible = chances > 0
    end = np.broadcast_to(np.arange(chances.shape[2]), chances.shape)
    pairs = np.stack([log_weights[possible], end[possible]], axis=1)
    kinds, kind = np.unique(pairs, axis=0, return_inverse=True)
    table = np.zeros(chances.shape, np.intp)
    table[possible] = kind.reshape(-1)
    draw = np.zeros((len(chances), len(kinds)))
    np.add.at(draw, (np.nonzero(possible)[0], table[possible]), chances[possible])
    return _Block(draw, kinds[:, 0], kinds[:, 1:] == np.arange(chances.shape[2]), table, place)


def _ways(total: int, num_kinds: int) -> Counts:
    """All ways to spread ``total`` particles over kinds, ``[C, J]``."""
    bars = list(itertools.combinations(range(total + num_kinds - 1), num_kinds - 1))
    places = np.array(bars, np.intp).reshape(len(bars), num_kinds - 1)
    edges = np.pad(places, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, total + num_kinds - 1)))
    return np.diff(edges, axis=1) - 1


def _multinomial(counts: Counts, law: Array) -> Array:
    """Probability of each of the ``counts [C, J]`` under each row of ``law [B, J]``, ``[B, C]``."""
    total = counts[0].sum()
    log_ways = scipy.special.gammaln(total + 1) - scipy.special.gammaln(counts + 1).sum(axis=1)
    log_law = np.log(law, out=np.full(law.shape, -1e300), where=law > 0)
    return np.exp(log_ways + log_law @ counts.T)


def _require_few(n: int, blocks: list[_Block], num_words: int) -> None:
    """Raise ``ValueError`` where the enumeration would not end."""
    kinds = max(len(block.log_weights) for block in blocks)
    ways = math.comb(n - 2 + kinds, kinds - 1)
    if ways * max(ways, num_words) > _MOST_TERMS:
        raise ValueError(
            f"n must be small for an enumeration, got {n} particles of up to {kinds} kinds on "
            f"{num_words} sequences, {ways} ways to spread them: use fewer, shorter sequences, or "
            "particle_bound."
        )
