"""Pairs of responses that are all known, for every way to train on them, and the loss of a batch.

R runs, one for each method; M responses, P pairs of a step, N candidates drawn for each pair's
ranks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

import bon_theory as bt
from bon_theory import alignment
from simulations.alignment import losses
from simulations.alignment.candidates import CandidateTable, Pairs
from simulations.alignment.losses import OnPolicy, PairLogProbs
from simulations.alignment.training import Objective, Terms
from simulations.language_model.enumerate import EnumeratedLaw
from simulations.language_model.transformer import Transformer

Pairing = Literal["best and worst", "ordinary", "pool ranks", "exact ranks"]


@dataclass(frozen=True)
class Method:
    """One way to train.

    Attributes:
        name: in words.
        objective: on pairs.
        pairing: which pairs: the best and worst of n, with targets from further draws; ordinary
            ones; or best and worst with targets from the ranks of the pool, or exact.
        backward: weight of the reverse KL divergence from best-of-n, on the policy's own draws:
            1 alone is variational best-of-n, beside SFT it is BOND.
    """

    name: str
    objective: Objective
    pairing: Pairing = "best and worst"
    backward: float = 0.0


def methods(n: int) -> tuple[Method, ...]:
    """Every loss, at several β where it has one, by names that a configuration can choose."""
    star = losses.papers_beta(n)
    scales = {"β*/5": 0.2, "β*": 1.0, "5β*": 5.0}
    return (
        Method("SFT-BoN", Objective.sft_best_of_n()),
        *(Method(f"BoNBoN, {s}", Objective.bonbon(n=n, beta=c * star)) for s, c in scales.items()),
        Method("BoNBoN, α = 0.5", Objective.bonbon(n=n, sft_weight=0.5)),
        *(Method(f"IPO-BoN, {s}", Objective.ipo(beta=c * star)) for s, c in scales.items()),
        *(
            Method(f"IPO, ordinary, β = {beta:g}", Objective.ipo(beta=beta), "ordinary")
            for beta in (0.03, 0.1, 0.5)
        ),
        *(Method(f"DPO-BoN, β = {b:g}", Objective.dpo(beta=b)) for b in (0.03, 0.1, 0.5)),
        *(
            Method(f"DPO, ordinary, β = {beta:g}", Objective.dpo(beta=beta), "ordinary")
            for beta in (0.03, 0.1, 0.5)
        ),
        Method("matched targets", Objective.ipo_matched(), "exact ranks"),
        Method("matched targets, relative", Objective.ipo_matched(relative=True), "exact ranks"),
        Method("matched targets, further draws", Objective.ipo_matched()),
        Method("matched targets, pool's ranks", Objective.ipo_matched(), "pool ranks"),
        Method("variational best-of-n", Objective(), backward=1.0),
        Method("BOND", Objective(sft=0.5), backward=0.5),
    )


class KnownResponses(NamedTuple):
    """All responses, as arguments of a compiled function.

    Attributes:
        read: ``[N_{T−1}, T]``, every prefix that goes on, after BOS.
        row: ``[M]``, a row of ``read`` that begins as the response does.
        tokens: ``[M, T]``.
        log_probs: ``[M]`` under the reference.
        log_ranks: ``[M]``, (log P_n/π − log n)/(n − 1): log F where there are no atoms.
        rewards: ``[M]``.
        n: of best-of-n.
    """

    read: jax.Array
    row: jax.Array
    tokens: jax.Array
    log_probs: jax.Array
    log_ranks: jax.Array
    rewards: jax.Array
    n: jax.Array

    @classmethod
    def of(cls, law: EnumeratedLaw, reference: bt.Policy, n: int) -> KnownResponses:
        """In the law's order."""
        num_prefixes, num_tokens = law.conditionals[-1].shape
        longest = law.tokens[-num_prefixes * num_tokens :: num_tokens]
        prefixes = longest[:, :-1]
        lengths = np.sum(law.tokens != law.vocabulary.pad_id, axis=1)
        beyond = np.arange(prefixes.shape[1]) >= lengths[:, None] - 1
        begins = np.all((law.tokens[:, None, :-1] == prefixes) | beyond[:, None], axis=-1)
        bos = np.full((num_prefixes, 1), law.vocabulary.bos_id, np.int32)
        log_density = np.asarray(bt.log_ratio(bt.best_of_n(reference, n), reference))
        return cls(
            jnp.asarray(np.concatenate([bos, prefixes], axis=1)),
            jnp.asarray(begins.argmax(axis=1), jnp.int32),
            jnp.asarray(law.tokens),
            jnp.asarray(law.log_probs, jnp.float32),
            jnp.asarray((log_density - np.log(n)) / (n - 1), jnp.float32),
            jnp.asarray(reference.rewards),
            jnp.float32(n),
        )


class Batch(NamedTuple):
    """What a step needs.

    Attributes:
        known: all responses.
        chosen: ``[R, P]``, which response.
        rejected: ``[R, P]``.
        terms: of the objectives, ``[R, P]`` each.
        backward: weight of the reverse divergence, ``[R]``.
        seed: data of the key of the policies' own draws.
    """

    known: KnownResponses
    chosen: NDArray[np.int32]
    rejected: NDArray[np.int32]
    terms: Terms
    backward: NDArray[np.float32]
    seed: NDArray[np.uint32]


def batch(
    known: KnownResponses,
    which: tuple[Method, ...],
    key: jax.Array,
    step: int,
    *,
    n: int,
    num_candidates: int,
    batch_size: int,
) -> Batch:
    """Fresh pairs of step ``step``, the same for all methods.

    Args:
        known: all responses.
        which: methods.
        key: a typed key, which with ``step`` decides the pairs.
        step: of the training.
        n: candidates of a pair.
        num_candidates: drawn for n candidates' ranks, those counted.
        batch_size: pairs.
    """
    seed = [*jax.random.key_data(key).tolist(), step]
    cdf = np.cumsum(np.exp(np.asarray(known.log_probs, np.float64)))
    shape = batch_size * n // num_candidates, num_candidates
    uniform = cdf[-1] * np.random.default_rng(seed).random(shape)
    drawn = np.searchsorted(cdf, uniform, side="right").astype(np.int32)
    table = CandidateTable(
        np.zeros((shape[0], 1), np.int32),
        drawn[..., None],
        np.asarray(known.rewards)[drawn],
        np.asarray(known.log_probs)[drawn],
        pad_id=cdf.size,
    )

    def lots() -> jax.Array:  # the same for all pairings, so that pairs differ by targets alone
        return jax.random.key(np.random.default_rng(seed).integers(2**62))

    best = table.pairs(lots(), n=n, ranks="further draws")
    pool = table.pairs(lots(), n=n, ranks="pool")
    ordinary = table.pairs(lots(), n=2)
    as_many = jax.tree.map(lambda part: part[:: n // 2], ordinary)  # as of the others
    margins = np.asarray((n - 1) * known.log_ranks)
    exact = margins[best.chosen[:, 0]] - margins[best.rejected[:, 0]]
    pairings: dict[Pairing, Pairs] = {
        "best and worst": best,
        "ordinary": as_many,
        "pool ranks": pool,
        "exact ranks": best._replace(target=exact),
    }
    pairs = [pairings[method.pairing] for method in which]
    terms = [m.objective.of(own.target) for m, own in zip(which, pairs, strict=True)]
    return Batch(
        known,
        np.stack([own.chosen[:, 0] for own in pairs]),
        np.stack([own.rejected[:, 0] for own in pairs]),
        Terms(*map(np.stack, zip(*terms, strict=True))),
        np.array([method.backward for method in which], np.float32),
        np.array(seed[-2:], np.uint32),
    )


def every_pair(known: KnownResponses, which: tuple[Method, ...], n: int) -> Batch:
    """All pairs, the loss of each times its probability and their number: its mean is expected."""
    law = bt.Policy.from_logits(np.asarray(known.log_probs, np.float64), np.asarray(known.rewards))
    margins = np.asarray((n - 1) * known.log_ranks)
    chosen, rejected = (
        index.reshape(-1).astype(np.int32) for index in np.indices(2 * margins.shape)
    )

    def terms(method: Method) -> Terms:
        joint = alignment.best_and_worst_probs(law, n=2 if method.pairing == "ordinary" else n)
        weight = np.asarray(joint, np.float32).reshape(-1) * np.float32(chosen.size)
        own = method.objective.of(margins[chosen] - margins[rejected])
        return own._replace(
            sft=own.sft * weight, square=own.square * weight, logistic=own.logistic * weight
        )

    shape = len(which), chosen.size
    every = Batch(
        known,
        np.broadcast_to(chosen, shape),
        np.broadcast_to(rejected, shape),
        Terms(*map(np.stack, zip(*map(terms, which), strict=True))),
        np.array([method.backward for method in which], np.float32),
        np.zeros(2, np.uint32),
    )
    return jax.tree.map(jnp.asarray, every)  # on the device once, not at every step


def loss(runs: Transformer, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Sum over runs and pairs, and the number of pairs: no run feels another."""
    laws = log_probs_of(runs, batch.known)
    key = jax.random.wrap_key_data(jnp.asarray(batch.seed))
    own = jax.random.categorical(
        key, jax.lax.stop_gradient(laws)[:, None], shape=(len(laws), _OWN_DRAWS)
    )

    def of_run(law: jax.Array, chosen: Any, rejected: Any, terms: Terms, own: Any) -> Any:
        reference = batch.known.log_probs
        pairs = PairLogProbs(law[chosen], law[rejected], reference[chosen], reference[rejected])
        drawn = OnPolicy(law[own], reference[own], batch.known.log_ranks[own])
        backward = losses.reverse_kl(drawn, n=batch.known.n)
        return jnp.mean(terms.values(pairs)), jnp.mean(backward)

    forward, backward = jax.vmap(of_run)(laws, batch.chosen, batch.rejected, batch.terms, own)
    number = jnp.float32(batch.chosen.shape[1])
    return number * jnp.sum(forward + batch.backward * backward), number


_OWN_DRAWS = 64  # of each policy at each step, for those that need them


def log_probs_of(runs: Transformer, known: KnownResponses) -> jax.Array:
    """log-probabilities ``[R, M]`` of all responses under each run, in float32."""
    graph, state = nnx.split(runs)
    counted = known.tokens < runs.config.vocabulary.num_tokens
    place = jnp.arange(known.tokens.shape[1])

    def of_run(state: nnx.State) -> jax.Array:
        table = jax.nn.log_softmax(nnx.merge(graph, state)(known.read))  # [N_{T−1}, T, V]
        each = table[known.row[:, None], place[None], jnp.where(counted, known.tokens, 0)]
        return jnp.sum(jnp.where(counted, each, 0.0), axis=1)

    return jax.vmap(of_run)(state)
