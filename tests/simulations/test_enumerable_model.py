"""What is selected from an enumerable model has the exact law, and a wrong law would be seen."""

import jax
import pytest

from simulations.experiments.enumerable_model import (
    RULES,
    EnumerableModelConfig,
    EnumerableModelResults,
    run,
)


@pytest.fixture(scope="module")
def results() -> EnumerableModelResults:
    config = EnumerableModelConfig(num_tokens=4, max_new_tokens=3, block_lengths=(1, 3))
    return run(config, jax.random.key(1))


def test_what_is_drawn_has_the_exact_law(results: EnumerableModelResults) -> None:
    assert len(results.selections) == 2 * len(RULES) * 2
    assert results.num_sequences == 1 + 3 + 9 * 4
    assert results.report.passed, results.report.rejected


def test_twice_the_candidates_are_rejected_everywhere(results: EnumerableModelResults) -> None:
    missed = {c.name for c in results.planted.checks} - {c.name for c in results.planted.rejected}
    assert missed == set()


def test_exact_means_are_those_of_what_is_drawn(results: EnumerableModelResults) -> None:
    """The rewards are of order 1, so a mean of 4,096 is within .1 at 6 standard errors."""
    for selection in results.selections:
        assert selection.mean_reward == pytest.approx(selection.expected_reward, abs=0.15)
        assert selection.kl_divergence > 0.05


def test_symbol_by_symbol_goes_further_than_whole_responses(
    results: EnumerableModelResults,
) -> None:
    """Four candidates for each token are more than four for all."""
    divergence = {(s.values, s.rule, s.block_length): s.kl_divergence for s in results.selections}
    for rule in RULES:
        assert divergence["additive", rule, 1] > divergence["additive", rule, 3]
