"""A language model's own samples: does the exact law of their rewards predict selection?

A small transformer is trained on English, draws candidates for held-out prompts, and two rewards
score them. For each reward, half the experiment is theory: the empirical reward law of one pool of
candidates, pushed through best-of-n and soft best-of-n exactly. The other half does it: n fresh
candidates, one selected.

What was trained and drawn is of use to other experiments as well (:func:`prepare`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from simulations.engine import checkpoint
from simulations.experiments.equal_kl import Selected, texts_at_equal_kl
from simulations.experiments.reward_pools import (
    PoolComparison,
    compare_pools,
    judge,
    tie_probability,
)
from simulations.language_model import train
from simulations.language_model.generate import generate
from simulations.language_model.rewards.text import KnownWords, Reward, TrigramLikelihood, score
from simulations.language_model.text.corpus import Corpus, load_corpus, prompt_texts, token_stream
from simulations.language_model.text.tokenizers import SubwordTokenizer, encode_prompts
from simulations.language_model.train import Progress
from simulations.language_model.transformer import num_parameters
from simulations.statistics.checks import Report
from simulations.tools.nested import flatten, unflatten


@dataclass(frozen=True)
class LanguageModelConfig:
    """The experiment; the default takes about 100 seconds on two cores.

    Attributes:
        training: the model and how it is trained.
        num_prompts: B held-out prompts, each the first words of a validation sentence.
        prompt_bytes: the longest prompt.
        max_new_tokens: T, the longest response.
        prediction_pool: N candidates per prompt that predict.
        measurement_pool: M further candidates per prompt that are selected among.
        numbers: numbers of candidates n.
        known_words_temperatures: λ for the reward with many ties, in words; 0 is best-of-n.
        trigram_likelihood_temperatures: λ for the other, in nats per symbol.
        num_redrawn: candidates drawn with replacement from each prompt's prediction pool.
        num_samples: prompts whose selected texts are shown.
        shown: n of the best-of-n that is shown, by trigram likelihood.
        shown_soft: n of the soft best-of-n that goes as far from the model.
    """

    training: train.TrainingConfig = field(default_factory=train.TrainingConfig)
    num_prompts: int = 64
    prompt_bytes: int = 32
    max_new_tokens: int = 24
    prediction_pool: int = 704
    measurement_pool: int = 320
    numbers: tuple[int, ...] = (1, 4, 16, 64, 256)
    known_words_temperatures: tuple[float, ...] = (0.0, 0.3, 1.0)
    trigram_likelihood_temperatures: tuple[float, ...] = (0.0, 0.1, 0.3)
    num_redrawn: int = 4096
    num_samples: int = 6
    shown: int = 16
    shown_soft: int = 64


@dataclass(frozen=True)
class Scored:
    """One reward's part of the results.

    Attributes:
        rewards: ``[B, N+M]``, of all candidates; the first N are the prediction pool.
        comparison: prediction and measurement.
    """

    rewards: NDArray[np.float64]
    comparison: PoolComparison

    @property
    def tie_probability(self) -> float:
        """Chance that two different candidates of a prompt have equal rewards, over prompts."""
        return tie_probability(self.rewards)


@dataclass(frozen=True)
class LanguageModelResults:
    """Everything the figures and the claim need; ``identity`` says what was run on what.

    Attributes:
        identity: configuration, key and hash of the corpus.
        corpus_bytes: size of the corpus.
        num_parameters: size of the model.
        losses: training loss in nats per token, at each step.
        validation_loss: of the trained model on held-out sentences, in nats per token.
        prompts: ``[B]`` texts.
        tokens: ``[B, N+M, T]`` of each candidate, PAD after its end.
        lengths: ``[B, N+M]`` tokens of each candidate, EOS included.
        samples: texts of one divergence from the model.
        known_words: the reward with many ties.
        trigram_likelihood: the reward with almost none.
    """

    identity: dict[str, Any]
    corpus_bytes: int
    num_parameters: int
    losses: NDArray[np.float32]
    validation_loss: float
    prompts: NDArray[np.str_]
    tokens: NDArray[np.int32]
    lengths: NDArray[np.int32]
    samples: tuple[Selected, ...]
    known_words: Scored
    trigram_likelihood: Scored

    def report(self, *, false_alarm: float = 1e-3, planted: bool = False) -> Report:
        """The claim as one family of checks: selection does what the exact law predicts.

        See :func:`~simulations.experiments.reward_pools.judge`; at the default size the wrong
        prediction is rejected for n = 1 always, for n = 4 nearly always.
        """
        scored = {name: getattr(self, name) for name in ("known_words", "trigram_likelihood")}
        return judge(
            {name: one.comparison for name, one in scored.items()},
            false_alarm=false_alarm,
            planted=planted,
        )

    def save(self, path: Path) -> None:
        """Write one ``.npz``, atomically."""
        fields = {k: v for k, v in asdict(self).items() if k != "identity"}
        fields["samples"] = [list(asdict(texts).values()) for texts in self.samples]
        checkpoint.save(path, self.identity, flatten(fields))

    @classmethod
    def load(cls, path: Path, identity: checkpoint.Identity | None = None) -> LanguageModelResults:
        """Read what ``save`` wrote.

        Raises:
            ValueError: ``identity`` (see ``run_identity``) is given and the file belongs to
                another.
        """
        found, arrays = checkpoint.load(path, identity)
        tree = unflatten(arrays)
        for reward in ("known_words", "trigram_likelihood"):
            comparison = PoolComparison.from_tree(tree[reward].pop("comparison"))
            tree[reward] = Scored(**tree[reward], comparison=comparison)
        tree["samples"] = tuple(Selected(*map(str, texts)) for texts in tree["samples"])
        for scalar in ("corpus_bytes", "num_parameters", "validation_loss"):
            tree[scalar] = tree[scalar].item()
        return cls(identity=found, **tree)


def run_identity(config: LanguageModelConfig, key: jax.Array) -> checkpoint.Identity:
    """What decides the outcome of ``run`` on this Python: configuration, key, corpus."""
    return train.identity_of(config, key, corpus_sha256=load_corpus().sha256)


_NUM_KEYS = 4  # the first is that of training


@dataclass(frozen=True)
class Prepared:
    """A trained model and held-out prompts.

    Attributes:
        corpus: that it was trained on a part of.
        tokenizer: of the model.
        trained: the model, and how training went.
        texts: of the prompts.
        prompts: ``[B, P]``, PAD to the left.
    """

    corpus: Corpus
    tokenizer: SubwordTokenizer
    trained: train.Trained
    texts: tuple[str, ...]
    prompts: NDArray[np.int32]


def prepare(
    config: LanguageModelConfig,
    key: jax.Array,
    *,
    checkpoint_dir: Path,
    progress: Progress | None = None,
) -> Prepared:
    """Train, or take what is trained from the disk, as :func:`run` does with the same key."""
    return _prepare(config, jax.random.split(key, _NUM_KEYS)[0], checkpoint_dir, progress)


def _prepare(
    config: LanguageModelConfig,
    training_key: jax.Array,
    checkpoint_dir: Path,
    progress: Progress | None,
) -> Prepared:
    corpus = load_corpus()
    trained, tokenizer = trained_model(
        config.training, training_key, corpus, checkpoint_dir=checkpoint_dir, progress=progress
    )
    texts = prompt_texts(
        corpus.validation, num_prompts=config.num_prompts, num_bytes=config.prompt_bytes
    )
    return Prepared(corpus, tokenizer, trained, texts, encode_prompts(texts, tokenizer))


def run(
    config: LanguageModelConfig,
    key: jax.Array,
    *,
    checkpoint_dir: Path,
    progress: Progress | None = None,
) -> LanguageModelResults:
    """Train (or go on from a checkpoint), sample, score, predict and measure. Consumes ``key``.

    Args:
        config: the experiment.
        key: a typed key.
        checkpoint_dir: where the training state is kept; its folder is named after configuration,
            corpus and key, so that runs never meet.
        progress: called as ``progress(stage, done, total)``.
    """
    training_key, sampling_key, scoring_key, shown_key = jax.random.split(key, _NUM_KEYS)
    words_key, trigram_key = jax.random.split(scoring_key)
    found = _prepare(config, training_key, checkpoint_dir, progress)
    corpus, model = found.corpus, found.trained.model
    candidates = generate(
        sampling_key,
        model,
        found.prompts,
        num_candidates=config.prediction_pool + config.measurement_pool,
        max_new_tokens=config.max_new_tokens,
        progress=_at_stage(progress, "sampling"),
    )
    texts = np.array(
        [[found.tokenizer.decode(tokens) for tokens in row] for row in candidates.tokens]
    )

    words = KnownWords.fit(corpus.train)
    trigrams = TrigramLikelihood.fit(corpus.scoring)
    likelihood = _score(
        trigram_key, config, trigrams, config.trigram_likelihood_temperatures, texts, progress
    )
    samples = texts_at_equal_kl(
        shown_key,
        found.texts[: config.num_samples],
        texts,
        likelihood.rewards,
        n=config.shown,
        soft_n=config.shown_soft,
    )
    return LanguageModelResults(
        identity=dict(run_identity(config, key)),
        corpus_bytes=corpus.num_bytes,
        num_parameters=num_parameters(model),
        losses=found.trained.losses,
        validation_loss=train.evaluate(model, corpus.validation, found.tokenizer).nats_per_token,
        prompts=np.array(found.texts),
        tokens=candidates.tokens,
        lengths=candidates.lengths,
        samples=samples,
        known_words=_score(
            words_key, config, words, config.known_words_temperatures, texts, progress
        ),
        trigram_likelihood=likelihood,
    )


def trained_model(
    config: train.TrainingConfig,
    key: jax.Array,
    corpus: Corpus,
    *,
    checkpoint_dir: Path,
    progress: Progress | None = None,
) -> tuple[train.Trained, SubwordTokenizer]:
    """The model and its tokenizer, trained or as they are in ``checkpoint_dir``."""
    tokenizer = SubwordTokenizer.train(corpus.train, num_tokens=config.model.vocabulary.num_tokens)
    trained_on = train.identity_of(config, key, corpus_sha256=corpus.sha256)
    trained = train.train(
        config,
        key,
        token_stream(corpus.train, tokenizer),
        checkpoint=checkpoint_dir / checkpoint.folder_name("language-model", trained_on),
        progress=progress,
    )
    return trained, tokenizer


def _score(
    key: jax.Array,
    config: LanguageModelConfig,
    reward: Reward,
    temperatures: tuple[float, ...],
    texts: NDArray[np.str_],
    progress: Progress | None,
) -> Scored:
    """Rewards of all candidates, and selection by them predicted and measured."""
    rewards = np.stack([score(reward, row.tolist()) for row in texts])
    comparison = compare_pools(
        key,
        rewards[:, : config.prediction_pool],
        rewards[:, config.prediction_pool :],
        numbers=config.numbers,
        temperatures=temperatures,
        num_redrawn=config.num_redrawn,
        progress=_at_stage(progress, f"selecting by {type(reward).__name__}"),
    )
    return Scored(rewards, comparison)


def _at_stage(progress: Progress | None, stage: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(stage, done, total)
