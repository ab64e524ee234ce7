"""Selection from a model whose every sequence is known: the exact law against what is drawn.

A small model over a few tokens; a rule selects whole responses, or block by block as they are
drawn, by an additive reward's partial sums or by the look-ahead of a reward of whole sequences. The
law of what is selected is known exactly (:mod:`simulations.language_model.enumerate`), and the
sequences that are drawn are held against it, each as one outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from flax import nnx

import bon_theory as bt
from simulations.language_model.enumerate import (
    EnumeratedLaw,
    Tree,
    at_ends,
    enumerate_sequences,
    expected_rewards,
    partial_rewards,
    select_blocks,
)
from simulations.language_model.select import select_online
from simulations.language_model.text.tokenizers import Vocabulary
from simulations.language_model.transformer import Transformer, TransformerConfig
from simulations.selection.candidates import (
    CandidateRule,
    best_of_n,
    exponential_race,
    first_above,
    soft_best_of_n,
)
from simulations.statistics.checks import Check, Family, Report, check_histogram
from simulations.tools.precision import require_float64

RULES = {
    "best-of-n": best_of_n(2),
    "soft best-of-n": soft_best_of_n(2, 0.3),
    "exponential race": exponential_race(2, 0.3),
    "first above a threshold": first_above(2, 1.0),
}


@dataclass(frozen=True)
class EnumerableModelConfig:
    """The model, and what is selected from it.

    Attributes:
        num_tokens: V, one of which ends a sequence.
        max_new_tokens: T; there are about V^T sequences.
        width: of the model, which has one layer and is not trained: its law is as good as another.
        block_lengths: tokens of a block; T for whole responses.
        num_sequences: drawn of each law.
        false_alarm: chance, at most, that any check is rejected although everything is right.
    """

    num_tokens: int = 4
    max_new_tokens: int = 4
    width: int = 16
    block_lengths: tuple[int, ...] = (1, 2, 4)
    num_sequences: int = 2048
    false_alarm: float = 1e-6


@dataclass(frozen=True)
class Selection:
    """One rule at one block length.

    Attributes:
        rule: its name.
        values: ``"additive"`` or ``"look-ahead"``.
        block_length: in tokens.
        expected_reward: exact.
        kl_divergence: exact, of sequences from the model's, in nats.
        mean_reward: of the sequences that were drawn.
        check: of their frequencies against the exact law.
        planted: of the same against the law of the same rule with twice the candidates.
    """

    rule: str
    values: str
    block_length: int
    expected_reward: float
    kl_divergence: float
    mean_reward: float
    check: Check
    planted: Check


@dataclass(frozen=True)
class EnumerableModelResults:
    """Everything that was selected.

    Attributes:
        num_sequences: M, that the model can emit.
        selections: by values, rule and block length.
        report: on all checks, as one family.
        planted: on all planted errors; all must be rejected.
    """

    num_sequences: int
    selections: tuple[Selection, ...]
    report: Report
    planted: Report


def run(
    config: EnumerableModelConfig,
    key: jax.Array,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> EnumerableModelResults:
    """Enumerate, select exactly, draw, and compare; consumes ``key``. Needs float64."""
    require_float64("enumerable_model")
    model_key, reward_key, draw_key = jax.random.split(key, 3)
    vocabulary = Vocabulary.plain(config.num_tokens)
    model = Transformer(
        TransformerConfig(vocabulary, width=config.width, num_layers=1), rngs=nnx.Rngs(model_key)
    )
    prompt = np.array([vocabulary.bos_id], np.int32)
    law = enumerate_sequences(model, prompt, max_new_tokens=config.max_new_tokens)

    token_key, whole_key = jax.random.split(reward_key)
    additive = partial_rewards(law, jax.random.normal(token_key, (config.num_tokens,)))
    whole = np.asarray(jax.random.normal(whole_key, (law.log_probs.size,)))
    trees = {"additive": additive, "look-ahead": expected_rewards(law, whole)}

    cases = [
        (values, rule, block_length)
        for values in trees
        for rule in RULES
        for block_length in config.block_lengths
    ]
    selections = []
    for index, (values, rule, block_length) in enumerate(cases):
        drawn = select_online(
            jax.random.fold_in(draw_key, index),
            model,
            prompt[None],
            RULES[rule],
            value=_value(law, trees[values]),
            max_new_tokens=config.max_new_tokens,
            block_length=block_length,
            num_sequences=config.num_sequences,
            batch_size=2**14,
        )
        counts = np.bincount(law.index(drawn.tokens[0]), minlength=law.log_probs.size)
        selections.append(
            _selection(law, trees[values], values, rule, block_length, counts, drawn.values[0])
        )
        if progress is not None:
            progress(index + 1, len(cases))

    names = tuple(selection.check.name for selection in selections)
    family = Family(names, config.false_alarm)
    return EnumerableModelResults(
        law.log_probs.size,
        tuple(selections),
        family.judge([selection.check for selection in selections]),
        family.judge([selection.planted for selection in selections]),
    )


def _value(law: EnumeratedLaw, tree: Tree) -> Callable[..., np.ndarray]:
    return lambda prompts, responses: law.look_up(tree, responses)


def _selection(
    law: EnumeratedLaw,
    tree: Tree,
    values: str,
    name: str,
    block_length: int,
    counts: np.ndarray,
    drawn_values: np.ndarray,
) -> Selection:
    rule = RULES[name]
    selected = select_blocks(law, tree, rule.law, block_length=block_length)
    wrong = select_blocks(law, tree, _doubled(rule).law, block_length=block_length)
    rewards = at_ends(tree)
    policy = selected.policy(rewards)
    title = f"{name}, {values}, blocks of {block_length}"
    return Selection(
        rule=name,
        values=values,
        block_length=block_length,
        expected_reward=float(bt.expected_reward(policy)),
        kl_divergence=float(bt.kl_divergence(policy, law.policy(rewards))),
        mean_reward=float(drawn_values.mean()),
        check=check_histogram(title, counts, np.exp(selected.log_probs)),
        planted=check_histogram(title, counts, np.exp(wrong.log_probs)),
    )


def _doubled(rule: CandidateRule) -> CandidateRule:
    """The same rule with twice the candidates: a prediction that is to be rejected."""
    return CandidateRule(2 * rule.n, rule.temperature, rule.noise, rule.threshold)
