"""Every figure's data and drawing, with few points, computed once."""

import itertools
from dataclasses import asdict
from functools import cache
from types import ModuleType

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

from figures import (
    aligned_models,
    alignment,
    alignment_sweeps,
    block_selection,
    bonbon,
    bounds,
    budgets,
    choosing,
    convergence_rate,
    families,
    hedging,
    language_model,
    learned_reward,
    particles,
    published_points,
    reachable,
    readme,
    real_answers,
    real_blocks,
    reward_frontier,
    sequences,
    text_alignment,
    ties,
    win_rate_frontier,
)
from figures.output import FigureData
from simulations.alignment.evaluation import PolicyEvaluation
from simulations.experiments.block_selection import (
    BlockSelectionConfig,
    BlockSelectionResults,
    Measured,
)
from simulations.experiments.enumerable_alignment import (
    EnumerableAlignmentConfig,
    EnumerableAlignmentResults,
    Landmark,
    Path,
)
from simulations.experiments.language_model import LanguageModelConfig, LanguageModelResults, Scored
from simulations.experiments.learned_reward import Choice, LearnedRewardResults
from simulations.experiments.model_blocks import ModelBlocks
from simulations.experiments.real_pool import RealPoolResults
from simulations.experiments.reward_pools import compare_pools
from simulations.experiments.text_policies import (
    AlignedAt,
    TaskReference,
    TextAlignmentResults,
)
from simulations.experiments.whole_responses import CandidatesNeeded
from simulations.statistics.estimate import Estimate

# Few points: what is tested is the same at any number.
POINTS = {
    "win_rate_frontier": 17,
    "published_points": 17,
    "reward_frontier": 5,
    "convergence_rate": 13,
    "reachable": 9,
    "budgets": 4,
    "ties": 9,
    "families": 5,
    "choosing": 4,
    "hedging": 7,
    "bounds": 512,
    "sequences": 9,
    "particles": 5,
    "bonbon": 5,
    "readme": 9,
}
SMALL = LanguageModelConfig(
    num_prompts=3,
    prediction_pool=64,
    measurement_pool=30,
    num_redrawn=80,
    numbers=(1, 4),
    known_words_temperatures=(0.0, 1.0),
    trigram_likelihood_temperatures=(0.0, 0.3),
)


@cache
def results() -> LanguageModelResults:
    """An experiment on rewards that need no language model."""
    draws = np.random.default_rng(0)
    size = (SMALL.num_prompts, SMALL.prediction_pool + SMALL.measurement_pool)

    def scored(seed: int, rewards: np.ndarray, temperatures: tuple[float, ...]) -> Scored:
        comparison = compare_pools(
            jax.random.key(seed),
            rewards[:, : SMALL.prediction_pool],
            rewards[:, SMALL.prediction_pool :],
            numbers=SMALL.numbers,
            temperatures=temperatures,
            num_redrawn=SMALL.num_redrawn,
        )
        return Scored(rewards, comparison)

    texts = np.array(["text"] * SMALL.num_prompts)
    return LanguageModelResults(
        identity={"config": asdict(SMALL), "corpus_sha256": "0", "key": [0, 0]},
        corpus_bytes=1,
        num_parameters=12345,
        losses=np.zeros(2, np.float32),
        validation_loss=1.5,
        prompts=texts,
        tokens=np.zeros((*size, 2), np.int32),
        lengths=np.ones(size, np.int32),
        samples=(),
        known_words=scored(1, draws.poisson(3.0, size).astype(float), (0.0, 1.0)),
        trigram_likelihood=scored(2, draws.normal(-2.0, 0.3, size), (0.0, 0.3)),
    )


@cache
def answers() -> RealPoolResults:
    """The same with three rewards of answers that nobody gave."""
    draws = np.random.default_rng(1)
    num_predicting = SMALL.prediction_pool  # the shapes of the other: the same programs
    size = (SMALL.num_prompts, num_predicting + SMALL.measurement_pool)
    rewards = {
        "lexicon": draws.poisson(3.0, size).astype(float),
        "sentiment": draws.uniform(-1, 1, size),
        "likelihood": draws.normal(-2.0, 0.3, size),
    }
    comparisons = {
        name: compare_pools(
            jax.random.key(seed),
            table[:, :num_predicting],
            table[:, num_predicting:],
            numbers=SMALL.numbers,
            temperatures=(0.0, 0.3),
            num_redrawn=SMALL.num_redrawn,
        )
        for seed, (name, table) in enumerate(rewards.items())
    }
    return RealPoolResults({"key": [0, 0]}, rewards, comparisons, 0.75, 20.0, ())


@cache
def aligned() -> EnumerableAlignmentResults:
    """Paths that nobody walked."""
    steps = np.array([0, 1, 3, 10, 30])
    rise = 1 - np.exp(-steps / 5)
    paths = tuple(
        Path(name, 0.5 + (0.35 + 0.01 * i) * rise, (1.5 + 0.1 * i) * rise, 0.6 - 0.4 * rise, rise)
        for i, name in enumerate(alignment.SHOWN)
    )
    marks = {
        "reference": (0.5, 0.0, 0.6),
        "best-of-n": (0.89, 1.2, 0.0),
        "BoNBoN, β*": (0.8, 0.9, 0.3),
    }
    landmarks = tuple(Landmark(name, *place, 3.5) for name, place in marks.items())
    frontier = np.array([[0.1, 3], [0.6, 1]])
    config = EnumerableAlignmentConfig()
    return EnumerableAlignmentResults(config, 341, steps, paths, landmarks, frontier)


@cache
def aligned_texts() -> TextAlignmentResults:
    """One task, two seeds, and numbers of nobody."""
    task, policies = "known words", []
    methods = text_alignment.SHOWN
    for seed, step, (i, method) in itertools.product(range(2), (10, 40), enumerate(methods)):
        rise = step / 50 * (1 + 0.02 * (i + seed))
        numbers = dict.fromkeys(PolicyEvaluation.__annotations__, 0.2) | {
            "win_rate": 0.5 + 0.4 * rise,
            "kl": 2 * rise,
            "mean_length": 20 + 2 * rise,
        }
        found = {name: Estimate(number, 0.01, 9) for name, number in numbers.items()}
        policies.append(AlignedAt(task, seed, method, step, PolicyEvaluation(**found), ("text",)))
    reference = TaskReference(task, ("a",), ("b",), ("c",), 0, 0.1, 0.88, 1.204, 21.0, 20.0)
    return TextAlignmentResults((reference,), tuple(policies))


@cache
def blocks() -> ModelBlocks:
    """Blocks that nobody selected."""
    config = BlockSelectionConfig()
    n, length = np.meshgrid(config.numbers, config.block_lengths, indexing="ij")
    kl = np.log(n) * 4 / np.sqrt(length)
    measured = Measured(kl / 2, np.full(kl.shape, 0.1)), Measured(kl, np.full(kl.shape, 0.05))
    results = BlockSelectionResults(config, 0.25, 12.0, *measured, 0.2, kl / 3, kl * 0.9)
    lengths = np.array([2, 4, 8])
    draws = np.array([1.5, 4.0, 200.0]), np.array([1.6, 4.5, np.inf]), np.array([1.2, 3.0, 9.0])
    needed = CandidatesNeeded(lengths, *draws)
    return ModelBlocks(results, needed, gain=0.1, trusted=100.0)


@cache
def learned() -> LearnedRewardResults:
    """Two sets of preferences that nobody stated, on four prompts."""
    numbers = np.array([1, 4, 16])
    table = np.ones((2, 4)) + np.arange(8).reshape(2, 4) / 40
    setting = np.ones((2, 2))

    def choice(n: float, achieved: float) -> Choice:
        return Choice(n * setting, 0 * setting, table, achieved * table)

    return LearnedRewardResults(
        identity={"config": {"num_pairs": 9, "hedged_n": 16}, "key": [0, 0]},
        correlation=np.full(2, 0.5),
        accuracy=np.full(2, 0.7),
        numbers=numbers,
        proxy=np.log(numbers)[:, None] * table[:, None],
        true=np.array([0.0, 1.2, 1.0])[:, None] * table[:, None],
        choices={
            "largest n": choice(16, 1.0),
            "hedged n": choice(5, 1.25),
            "hedged temperature": choice(16, 1.2),
        },
    )


@cache
def data(name: str) -> FigureData:
    if name == "text_alignment":
        return text_alignment.data(aligned_texts())
    if name == "alignment":
        return alignment.data(aligned())
    if name == "language_model":
        return language_model.data(results())
    if name == "real_answers":
        return real_answers.data(answers())
    if name == "block_selection":
        return block_selection.data(blocks())
    if name == "learned_reward":
        return learned_reward.data(learned())
    points = {"points": POINTS[name]} if name in POINTS else {}  # the others read what was found
    return MODULES[name].data(**points)


@cache
def drawn(name: str) -> Figure:
    return MODULES[name].draw(data(name))


MODULES: dict[str, ModuleType] = {
    module.__name__.split(".")[1]: module
    for module in (
        alignment,
        win_rate_frontier,
        published_points,
        reward_frontier,
        convergence_rate,
        reachable,
        budgets,
        text_alignment,
        ties,
        families,
        choosing,
        hedging,
        bounds,
        sequences,
        particles,
        bonbon,
        real_blocks,
        aligned_models,
        alignment_sweeps,
        readme,
        language_model,
        block_selection,
        learned_reward,
        real_answers,
    )
}
# Those whose data take seconds to compile.
SLOW = {"bonbon", "bounds", "choosing", "families", "hedging", "particles", "sequences"}
EVERY = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in MODULES]
)
