"""Training a policy on pairs: any loss, RMSprop or AdamW, all parameters or a change of low rank.

The reference is frozen: its log-probabilities of the pairs are stored with them, so that a step
computes the policy's alone.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from numpy.typing import NDArray

from simulations.alignment import losses
from simulations.alignment.candidates import Pairs
from simulations.alignment.losses import PairLogProbs
from simulations.alignment.low_rank import merged, with_low_rank
from simulations.language_model.fit import Update, fit
from simulations.language_model.generate import response_log_probs
from simulations.language_model.resume import Checkpoint
from simulations.language_model.transformer import Transformer, parameters_sha256
from simulations.tools.files import write_atomically

Evaluate = Callable[[Transformer, int], Mapping[str, Any]]
"""(policy, updates so far) → what is found, as JSON."""

CLIPPED_AT = 10.0
"""Norm of the gradient beyond which it is scaled down, as in the paper's code."""


@dataclass(frozen=True)
class Objective:
    r"""A loss on pairs: :math:`w_1` SFT :math:`+\;w_2\,(\text{margin} - m)^2 + w_3` DPO.

    Every loss on pairs that is trained here is such a sum; the constructors name them.

    Attributes:
        sft: :math:`w_1`.
        square: :math:`w_2`, of IPO, whose target m is 1/(2β), or the pair's own.
        logistic: :math:`w_3`.
        beta: β of IPO and of DPO.
        matched: whether m is the pair's own target.
        relative: whether the square is divided by 1 + m²: targets span tens of nats, and the
            largest, of the worst responses, else decide what is learned first. A weight that
            depends on the pair alone leaves the minimiser as it is where targets are exact, not
            where they are estimates, which it depends on.
    """

    sft: float = 0.0
    square: float = 0.0
    logistic: float = 0.0
    beta: float = 1.0
    matched: bool = False
    relative: bool = False

    @classmethod
    def sft_best_of_n(cls) -> Objective:
        """SFT on the chosen response. [G] (4.1)."""
        return cls(sft=1.0)

    @classmethod
    def ipo(cls, *, beta: float) -> Objective:
        """IPO (Azar et al. 2023); at β*_n it is IPO-BoN, [G] (4.3)."""
        return cls(square=1.0, beta=beta)

    @classmethod
    def bonbon(cls, *, n: int, sft_weight: float = 0.005, beta: float | None = None) -> Objective:
        """BoNBoN; β is β*_n unless given. [G] (4.4)."""
        beta = losses.papers_beta(n) if beta is None else beta
        return cls(sft=sft_weight, square=1 - sft_weight, beta=beta)

    @classmethod
    def dpo(cls, *, beta: float) -> Objective:
        """DPO (Rafailov et al. 2023)."""
        return cls(logistic=1.0, beta=beta)

    @classmethod
    def ipo_matched(cls, *, sft_weight: float = 0.0, relative: bool = False) -> Objective:
        """IPO with each pair's own margin at best-of-n as its target; derived here."""
        return cls(sft=sft_weight, square=1 - sft_weight, matched=True, relative=relative)

    def of(self, target: NDArray[np.floating]) -> Terms:
        """The same for each of the pairs that have these targets ``[P]``.

        Raises:
            ValueError: it needs targets, and there are none.
        """
        if self.matched and not np.isfinite(target).all():
            raise ValueError(
                "pairs has no targets, which a matched loss needs: make pairs with ranks='pool' "
                "or ranks='further draws'"
            )
        margin = target if self.matched else np.full_like(target, 0.5 / self.beta)
        sft, square, logistic, beta = (
            np.full_like(target, number)
            for number in (self.sft, self.square, self.logistic, self.beta)
        )
        if self.relative:
            square = square / (1 + np.square(margin))
        return Terms(sft, square, logistic, margin, beta)


class Terms(NamedTuple):
    """An objective as numbers for each pair, ``[P]``: one compiled program serves all of them.

    Attributes:
        sft: weight of SFT.
        square: weight of IPO.
        logistic: weight of DPO.
        margin: target of IPO.
        beta: of DPO.
    """

    sft: Any
    square: Any
    logistic: Any
    margin: Any
    beta: Any

    def values(self, pairs: PairLogProbs) -> jax.Array:
        """The loss of each pair, ``[P]``."""
        return (
            self.sft * losses.sft(pairs)
            + self.square * losses.ipo_matched(pairs, target=self.margin)
            + self.logistic * losses.dpo(pairs, beta=self.beta)
        )


@dataclass(frozen=True)
class AlignmentConfig:
    """What decides a training, apart from the reference, the pairs and the key.

    Attributes:
        objective: what is minimised.
        num_steps: updates.
        batch_size: pairs in an update.
        optimizer: ``"rmsprop"``, as in the paper, or ``"adamw"``.
        learning_rate: after the warm-up; constant from there.
        warmup_steps: over which it rises from 0, linearly.
        rank: of the change of each matrix (LoRA); 0 trains all parameters.
        num_parts: of a batch, one in memory at a time; a divisor of ``batch_size``.
        rematerialise: activations are computed once more in the backward pass, not kept.
        evaluate_at: numbers of updates after which the policy is evaluated, 0 for the reference.

    Raises:
        ValueError: no step or pair, parts that are not equal, a learning rate that is not positive.
    """

    objective: Objective
    num_steps: int = 200
    batch_size: int = 32
    optimizer: Literal["rmsprop", "adamw"] = "rmsprop"
    learning_rate: float = 1e-4
    warmup_steps: int = 10
    rank: int = 0
    num_parts: int = 1
    rematerialise: bool = False
    evaluate_at: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        if self.num_steps < 1 or self.batch_size < 1 or not self.learning_rate > 0:
            raise ValueError(
                f"num_steps is {self.num_steps}, batch_size {self.batch_size}, learning_rate "
                f"{self.learning_rate}: all must be positive"
            )
        if self.num_parts < 1 or self.batch_size % self.num_parts:
            raise ValueError(
                f"num_parts is {self.num_parts} and batch_size is {self.batch_size}: parts are "
                "equal, so make it a divisor"
            )
        if self.optimizer not in ("rmsprop", "adamw"):
            raise ValueError(f"optimizer is {self.optimizer!r:.80}: choose 'rmsprop' or 'adamw'")


@dataclass(frozen=True)
class Aligned:
    """What a training came to.

    Attributes:
        policy: the model at the end, a change of low rank added to its matrices.
        losses: mean over the batch before each update, ``[S]``.
        gradient_norms: ``[S]``.
        trajectory: what each evaluation found, in order, with ``"step"``.
        pairs_per_second: NaN where next to nothing was done.
    """

    policy: Transformer
    losses: NDArray[np.float32]
    gradient_norms: NDArray[np.float32]
    trajectory: tuple[Mapping[str, Any], ...]
    pairs_per_second: float


class TrainingPairs(NamedTuple):
    """A batch: pairs, and the objective's numbers for each."""

    pairs: Pairs
    terms: Terms


def align(
    config: AlignmentConfig,
    key: jax.Array,
    reference: Transformer,
    pairs: Pairs,
    *,
    evaluate: Evaluate | None = None,
    folder: Path | None = None,
    checkpoint_every: int = 50,
    progress: Callable[[str, int, int], None] | None = None,
) -> Aligned:
    """Train a policy, which begins as the reference, on ``pairs``; consumes ``key``.

    Batches go through the pairs in an order of their own at each pass. Step i depends on (key, i)
    alone: interrupted or not, a run in a ``folder`` ends in the same numbers.

    Args:
        config: of the training.
        key: a typed key.
        reference: stays as it is.
        pairs: of the reference's candidates, at least a batch.
        evaluate: looks at the policy during training, at ``config.evaluate_at``.
        folder: keeps the state, and each evaluation as it is made.
        checkpoint_every: updates between two states that are kept; the last always is.
        progress: called as ``progress("aligning (…)", done, total)``, in updates.

    Raises:
        ValueError: fewer pairs than a batch, or pairs without targets for a loss that needs them;
            the folder belongs to another run.
        FloatingPointError: a loss that is not finite; the folder holds an earlier state.
    """
    if len(pairs.chosen) < config.batch_size:
        raise ValueError(
            f"pairs has {len(pairs.chosen)} pairs, fewer than the {config.batch_size} of a batch: "
            "draw more candidates, or choose a smaller batch_size"
        )
    examples = TrainingPairs(pairs, config.objective.of(pairs.target))
    start_key, order_key = jax.random.split(key)
    policy = _policy(config, start_key, reference)
    identity, kept = {}, None
    if folder is not None:
        identity = {
            "config": asdict(config),
            "key": jax.random.key_data(key).tolist(),
            "pairs": _sha256(pairs),
            "reference": parameters_sha256(reference),
        }
        kept = Checkpoint(folder / "state", identity, checkpoint_every)

    def finished(policy: Transformer) -> Transformer:
        """As the reference is, so that what was compiled for it serves."""
        whole = merged(policy)
        whole.config = reference.config
        return whole

    def look(step: int, policy: Transformer) -> None:
        trajectory.look(step, lambda: finished(policy))

    trajectory = _Trajectory(evaluate, folder, identity)
    fitted = fit(
        policy,
        pair_loss,
        lambda step: _rows(examples, _order(order_key, step, config, len(pairs.chosen))),
        transform(config.optimizer, config.learning_rate, config.warmup_steps),
        num_steps=config.num_steps,
        trained=nnx.LoRAParam if config.rank else nnx.Param,
        num_parts=config.num_parts,
        checkpoint=kept,
        observe=look,
        observe_at=config.evaluate_at if evaluate is not None else (),
        progress=None if progress is None else _told(progress),
    )
    found = trajectory.all(config.evaluate_at if evaluate is not None else ())
    return Aligned(finished(policy), fitted.losses, fitted.gradient_norms, found, fitted.speed)


def pair_loss(model: Transformer, batch: TrainingPairs) -> tuple[jax.Array, jax.Array]:
    """Sum of the loss over a batch, and the number of its pairs.

    Chosen and rejected responses go through the model together.
    """
    pairs, terms = batch
    prompts = jnp.concatenate([pairs.prompts, pairs.prompts])
    responses = jnp.concatenate([pairs.chosen, pairs.rejected])
    chosen, rejected = jnp.split(response_log_probs(model, prompts, responses), 2)
    references = map(jnp.asarray, (pairs.chosen_reference, pairs.rejected_reference))
    log_probs = PairLogProbs(chosen, rejected, *references)
    return jnp.sum(terms.values(log_probs)), jnp.float32(chosen.size)


class _Trajectory:
    """What was found on the way: in memory, and a file for each in the folder, if there is one."""

    def __init__(self, evaluate: Evaluate | None, folder: Path | None, identity: Any) -> None:
        self.evaluate, self.folder, self.found = evaluate, folder, {}
        self.identity = hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def look(self, step: int, policy: Callable[[], Transformer]) -> None:
        if self.evaluate is None or self._read(step) is not None:
            return
        found = {**self.evaluate(policy(), step), "step": step}
        self.found[step] = found
        if self.folder is not None:
            told = json.dumps({"identity": self.identity, "found": found}, indent=1)
            write_atomically(self._path(step), told + "\n")

    def all(self, steps: tuple[int, ...]) -> tuple[Mapping[str, Any], ...]:
        found = (self._read(step) for step in sorted(steps))
        return tuple(each for each in found if each is not None)

    def _path(self, step: int) -> Path:
        assert self.folder is not None
        return self.folder / f"evaluation-{step:06}.json"

    def _read(self, step: int) -> Mapping[str, Any] | None:
        if step not in self.found and self.folder is not None and self._path(step).exists():
            told = json.loads(self._path(step).read_text())
            if told["identity"] == self.identity:
                self.found[step] = told["found"]
        return self.found.get(step)


def _policy(config: AlignmentConfig, key: jax.Array, reference: Transformer) -> Transformer:
    """The reference's copy, to be trained."""
    if config.rank:
        policy = with_low_rank(reference, rank=config.rank, rngs=nnx.Rngs(key))
    else:
        graph, state = nnx.split(reference)
        # Copied, since training takes the arrays it begins with.
        policy = nnx.merge(graph, jax.tree.map(jnp.copy, state))
    if config.rematerialise:
        policy.config = replace(policy.config, rematerialise=True)
    return policy


@functools.cache  # the same object for the same numbers: a second run does not compile
def transform(
    name: str, learning_rate: float, warmup_steps: int, decay_steps: int = 0
) -> optax.GradientTransformation:
    """``"rmsprop"`` or ``"adamw"`` of clipped gradients.

    The rate rises over the warm-up, linearly, and then stays, or falls to 0 along a cosine so that
    it gets there after ``decay_steps`` in all.
    """
    if decay_steps:
        rate = optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup_steps, decay_steps)
    elif warmup_steps:
        rate = optax.linear_schedule(0.0, learning_rate, warmup_steps)
    else:
        rate = learning_rate
    # PyTorch's RMSprop, which the paper's code calls, has this decay and adds ε outside the root.
    update = {
        "rmsprop": optax.rmsprop(rate, decay=0.99, eps=1e-8, eps_in_sqrt=False),
        "adamw": optax.adamw(rate, b2=0.99, weight_decay=0.0),
    }[name]
    return optax.chain(optax.clip_by_global_norm(CLIPPED_AT), update)


def _order(key: jax.Array, step: int, config: AlignmentConfig, num_pairs: int) -> NDArray[np.intp]:
    """Rows ``[batch_size]`` of a step: passes over all pairs, each in an order of its own."""
    per_pass = num_pairs // config.batch_size
    passed, place = divmod(step, per_pass)
    order = _permutation(key, passed, num_pairs)
    return order[place * config.batch_size : (place + 1) * config.batch_size]


@functools.lru_cache(maxsize=2)
def _shuffled(words: tuple[int, ...], passed: int, num_pairs: int) -> NDArray[np.intp]:
    return np.random.default_rng([*words, passed]).permutation(num_pairs)


def _permutation(key: jax.Array, passed: int, num_pairs: int) -> NDArray[np.intp]:
    return _shuffled(tuple(jax.random.key_data(key).tolist()), passed, num_pairs)


def _rows(examples: TrainingPairs, rows: NDArray[np.intp]) -> TrainingPairs:
    return jax.tree.map(lambda leaf: leaf[rows], examples)


def _sha256(pairs: Pairs) -> str:
    digest = hashlib.sha256()
    for array in pairs:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _told(progress: Callable[[str, int, int], None]) -> Callable[[Update], None]:
    def tell(update: Update) -> None:
        speed = "" if np.isnan(update.speed) else f", {update.speed:,.1f} pairs/s"
        progress(f"aligning (loss {update.loss:.3f}{speed})", update.done, update.total)

    return tell
