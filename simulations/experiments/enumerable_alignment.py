"""Alignment of a model whose every response is known: where training is, exactly, at every step.

A small transformer over a few tokens is trained by every loss on the same batches of fresh pairs.
At chosen steps its law over all responses is written down, and with it win rate, KL divergence and
total variation from best-of-n, without sampling: so it can be said where on its way a loss passes
by what minimises it over all laws, and by best-of-n, which it is to imitate.

All policies are trained side by side, as one model whose parameters have a further axis: R runs. M
responses, S observed steps. The pairs come from :mod:`simulations.experiments.enumerable_pairs`.
"""

from __future__ import annotations

import functools
import json
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from numpy.typing import NDArray

import bon_theory as bt
from bon_theory import alignment
from simulations.alignment import training
from simulations.experiments.enumerable_pairs import (
    Batch,
    KnownResponses,
    Method,
    batch,
    every_pair,
    log_probs_of,
    loss,
    methods,
)
from simulations.language_model.enumerate import EnumeratedLaw, enumerate_sequences
from simulations.language_model.fit import Update, fit
from simulations.language_model.rewards.tokens import of_tokens
from simulations.language_model.text.tokenizers import Vocabulary
from simulations.language_model.transformer import Transformer, TransformerConfig
from simulations.tools.files import write_atomically
from simulations.tools.precision import require_float64


@dataclass(frozen=True)
class EnumerableAlignmentConfig:
    """The model, the reward, and how long it is trained.

    Attributes:
        names: of the methods to train; all unless given.
        num_tokens: V, one of which ends a response.
        max_new_tokens: T.
        width: of the model, which has one layer and is not trained before.
        whole_share: spread of the part of the reward that no token earns, beside a spread of 1 of
            what each token earns: it keeps rewards apart.
        n: candidates of a pair.
        num_candidates: N, drawn for n candidates' ranks, those counted; a multiple of n.
        batch_size: P, fresh pairs of a step; a multiple of N/n.
        expected: whether a step has the expectation over all pairs instead, M² of them, by their
            exact probabilities. Targets are exact then.
        num_steps: updates.
        optimizer: as in :class:`~simulations.alignment.training.AlignmentConfig`.
        learning_rate: after ``warmup_steps``, over which it rises.
        decays: whether it then falls to 0 along a cosine, rather than staying.
        num_observed: steps looked at, spaced as their logarithms are.
    """

    names: tuple[str, ...] = ()
    num_tokens: int = 5
    max_new_tokens: int = 4
    width: int = 32
    whole_share: float = 0.3
    n: int = 8
    num_candidates: int = 64
    batch_size: int = 256
    expected: bool = False
    num_steps: int = 400
    optimizer: Literal["rmsprop", "adamw"] = "rmsprop"
    learning_rate: float = 1e-3
    warmup_steps: int = 30
    decays: bool = False
    num_observed: int = 24

    @property
    def methods(self) -> tuple[Method, ...]:
        """Those that are trained."""
        return tuple(m for m in methods(self.n) if not self.names or m.name in self.names)

    @property
    def observed(self) -> tuple[int, ...]:
        """Numbers of updates that are looked at, from 0 to the last."""
        spaced = np.geomspace(1, self.num_steps, self.num_observed)
        return (0, *np.unique(spaced.astype(int)).tolist())


@dataclass(frozen=True)
class Path:
    """Where one method was, step by step.

    Attributes:
        name: of the method.
        win_rate: against the reference, ties counting half, ``[S]``.
        kl: from the reference in nats, ``[S]``.
        total_variation: from best-of-n, ``[S]``.
        mean_length: in tokens, ``[S]``.
    """

    name: str
    win_rate: NDArray[np.float64]
    kl: NDArray[np.float64]
    total_variation: NDArray[np.float64]
    mean_length: NDArray[np.float64]


@dataclass(frozen=True)
class Landmark:
    """A law that training may pass by.

    Attributes:
        name: in words.
        win_rate: against the reference.
        kl: from the reference.
        total_variation: from best-of-n.
        mean_length: in tokens.
    """

    name: str
    win_rate: float
    kl: float
    total_variation: float
    mean_length: float


@dataclass(frozen=True)
class EnumerableAlignmentResults:
    """All paths, and what lies beside them.

    Attributes:
        config: of the experiment.
        num_responses: M.
        steps: observed, ``[S]``.
        paths: by method.
        landmarks: the reference, best-of-n, and what minimises each loss that has a minimiser.
        frontier: largest win rate ``[2, F]`` at each KL divergence: divergences, then win rates.
    """

    config: EnumerableAlignmentConfig
    num_responses: int
    steps: NDArray[np.int64]
    paths: tuple[Path, ...]
    landmarks: tuple[Landmark, ...]
    frontier: NDArray[np.float64]

    def path(self, name: str) -> Path:
        """Of the method of that name."""
        return next(path for path in self.paths if path.name == name)

    def landmark(self, name: str) -> Landmark:
        """Of that name."""
        return next(landmark for landmark in self.landmarks if landmark.name == name)

    def save(self, path: pathlib.Path) -> None:
        """Write as JSON, atomically."""
        found = json.dumps(asdict(self), default=np.ndarray.tolist, ensure_ascii=False)
        write_atomically(path, found + "\n")

    @classmethod
    def load(cls, path: pathlib.Path) -> EnumerableAlignmentResults:
        """Read what ``save`` wrote."""
        read = json.loads(path.read_text(encoding="utf-8"))
        names = tuple(read["config"].pop("names"))
        return cls(
            config=EnumerableAlignmentConfig(names=names, **read["config"]),
            num_responses=read["num_responses"],
            steps=np.asarray(read["steps"]),
            paths=tuple(
                Path(each.pop("name"), **{name: np.asarray(v) for name, v in each.items()})
                for each in read["paths"]
            ),
            landmarks=tuple(Landmark(**each) for each in read["landmarks"]),
            frontier=np.asarray(read["frontier"]),
        )


def run(
    config: EnumerableAlignmentConfig,
    key: jax.Array,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> EnumerableAlignmentResults:
    """Train every method on the same fresh pairs; consumes ``key``. Needs float64."""
    require_float64("enumerable_alignment")
    problem_key, pair_key = jax.random.split(key)
    model, law, reference = problem(config, problem_key)
    which, known = config.methods, KnownResponses.of(law, reference, config.n)

    # One model whose parameters have a further axis: each run's own.
    graph, state = nnx.split(model)
    runs = nnx.merge(graph, jax.tree.map(lambda leaf: jnp.stack([leaf] * len(which)), state))
    observed: dict[int, NDArray[np.float64]] = {}

    def look(step: int, runs: Transformer) -> None:
        observed[step] = np.asarray(_observed_laws(runs, known), np.float64)

    every = every_pair(known, which, config.n) if config.expected else None

    def batches(step: int) -> Batch:
        if every is None:
            return batch(
                known,
                which,
                pair_key,
                step,
                n=config.n,
                num_candidates=config.num_candidates,
                batch_size=config.batch_size,
            )
        return every._replace(seed=np.array([0, step], np.uint32))

    def tell(update: Update) -> None:
        if progress is not None:
            progress(f"aligning {len(which)} policies", update.done, update.total)

    fit(
        runs,
        loss,
        batches,
        _every_run(
            config.optimizer,
            config.learning_rate,
            config.warmup_steps,
            config.num_steps if config.decays else 0,
        ),
        num_steps=config.num_steps,
        observe=look,
        observe_at=config.observed,
        progress=tell,
    )
    laws = np.stack([observed[step] for step in config.observed])  # [S, R, M]
    place = partial(_place, reference, np.sum(law.tokens < config.num_tokens, axis=1), config.n)
    return EnumerableAlignmentResults(
        config=config,
        num_responses=law.log_probs.size,
        steps=np.array(config.observed),
        paths=tuple(Path(m.name, *place(laws[:, r])) for r, m in enumerate(which)),
        landmarks=tuple(
            Landmark(name, *(float(number) for number in place(np.asarray(policy.log_probs))))
            for name, policy in landmarks(reference, which, config.n).items()
        ),
        frontier=_frontier(reference),
    )


def problem(
    config: EnumerableAlignmentConfig, key: jax.Array
) -> tuple[Transformer, EnumeratedLaw, bt.Policy]:
    """The model, its law, and the same with rewards; consumes ``key``.

    A reward is what a response's tokens earn (EOS earns nothing), and a part of its own.
    """
    model_key, token_key, whole_key = jax.random.split(key, 3)
    vocabulary = Vocabulary.plain(config.num_tokens)
    model = Transformer(
        TransformerConfig(vocabulary, width=config.width, num_layers=1), rngs=nnx.Rngs(model_key)
    )
    law = enumerate_sequences(model, [vocabulary.bos_id], max_new_tokens=config.max_new_tokens)
    earned = np.array(jax.random.normal(token_key, (config.num_tokens,)))
    earned[vocabulary.eos_id] = 0.0
    whole = np.asarray(jax.random.normal(whole_key, law.log_probs.shape))
    rewards = of_tokens(earned, law.tokens).sum(axis=1) + config.whole_share * whole
    return model, law, law.policy(rewards)


def landmarks(reference: bt.Policy, which: Sequence[Method], n: int) -> dict[str, bt.Policy]:
    """Laws that training may pass by: of each loss with a minimiser, under its method's name."""
    found = {"reference": reference, "best-of-n": bt.best_of_n(reference, n)}
    for method in which:
        objective, ordinary = method.objective, method.pairing == "ordinary"
        if objective.matched or objective.logistic or not objective.square:
            continue  # best-of-n, or none
        if objective.sft:
            found[method.name] = alignment.bonbon(
                reference, n=n, beta=objective.beta, sft_weight=objective.sft
            )
        else:
            found[method.name] = alignment.ipo(
                reference, n=2 if ordinary else n, beta=objective.beta
            )
    return found


_observed_laws = nnx.jit(log_probs_of)


@functools.cache
def _every_run(
    name: str, learning_rate: float, warmup_steps: int, decay_steps: int
) -> optax.GradientTransformation:
    """The optimiser of ``align``, which clips and scales every run by itself."""
    one = training.transform(name, learning_rate, warmup_steps, decay_steps)

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        return jax.vmap(one.update)(updates, state, params)

    return optax.GradientTransformation(jax.vmap(one.init), update)


def _place(
    reference: bt.Policy, lengths: NDArray[np.int64], n: int, log_probs: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    """Win rate, KL, total variation from best-of-n, and mean length of laws ``[..., M]``."""
    policy = bt.Policy.from_logits(log_probs, np.broadcast_to(reference.rewards, log_probs.shape))
    best = bt.best_of_n(reference, n)
    found = (
        bt.win_rate(policy, reference),
        bt.kl_divergence(policy, reference),
        bt.total_variation(policy, best),
        np.exp(log_probs) @ lengths,
    )
    return tuple(np.asarray(each, np.float64) for each in found)


def _frontier(reference: bt.Policy, points: int = 48) -> NDArray[np.float64]:
    """Divergences up to the largest that there is, and the largest win rate at each."""
    most = -float(np.asarray(reference.log_probs)[np.argmax(reference.rewards)])
    budgets = np.geomspace(1e-3, 0.98 * most, points)
    found = bt.frontier(reference, jnp.asarray(budgets), objective="win_rate")
    return np.stack([budgets, np.asarray(found.value)])
