"""One token: the law it is drawn from, and the draw in two levels."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from simulations.language_model.sampler import TokenLaw, draw, row_words, token_words
from simulations.statistics.checks import check_histogram

SIZE = 600  # two blocks and a rest
LOGITS = np.random.default_rng(0).normal(0, 2, SIZE).astype(np.float32)


@partial(jax.jit, static_argnums=1)
def drawn(law: TokenLaw, num_rows: int, logits: jax.Array, step: jax.Array) -> tuple:
    rows = jnp.arange(num_rows, dtype=jnp.int32)
    words = row_words(jax.random.key_data(jax.random.key(1)), jnp.zeros_like(rows), rows)
    return draw(law, token_words(words, step), jnp.broadcast_to(logits, (num_rows, logits.size)))


def by_sorting(logits: np.ndarray, temperature: float, top_k: int, top_p: float) -> np.ndarray:
    order = np.argsort(-logits)[:top_k]
    probs = special.softmax(logits[order].astype(np.float64) / temperature)
    kept = np.concatenate([[0.0], np.cumsum(probs)[:-1]]) < top_p
    law = np.zeros(logits.size)
    law[order[kept]] = probs[kept] / probs[kept].sum()
    return law


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, None, None), (0.6, None, None), (1.0, 7, None), (2.0, None, 0.7), (0.9, 300, 0.5)],
)
def test_log_probs_are_those_by_sorting(temperature, top_k, top_p) -> None:
    law = TokenLaw(temperature, top_k, top_p)
    with np.errstate(divide="ignore"):
        expected = np.log(by_sorting(LOGITS, temperature, top_k or SIZE, top_p or 1.0))
    np.testing.assert_allclose(jax.jit(TokenLaw.log_probs)(law, LOGITS), expected, atol=2e-6)


def test_tokens_follow_the_law_and_say_their_log_probs() -> None:
    """G-test at a false-alarm rate of 1e-6; a law 20 % off in temperature is rejected."""
    law = TokenLaw(0.8)
    tokens, log_probs, model_log_probs = drawn(law, 2**15, LOGITS, jnp.int32(4))
    counts = np.bincount(tokens, minlength=SIZE)
    for temperature, rejected in [(0.8, False), (0.8 * 1.2, True)]:
        probs = special.softmax(LOGITS.astype(np.float64) / temperature)
        assert (check_histogram("tokens", counts, probs).p_value < 1e-6) == rejected
    for temperature, given in [(0.8, log_probs), (1.0, model_log_probs)]:
        expected = special.log_softmax(LOGITS.astype(np.float64) / temperature)[tokens]
        np.testing.assert_allclose(given, expected, atol=3e-6)


def test_tokens_that_are_cut_are_never_drawn() -> None:
    law = TokenLaw(top_k=5)
    tokens = drawn(law, 2**12, LOGITS, jnp.int32(1))[0]
    assert set(np.asarray(tokens).tolist()) == set(np.argsort(-LOGITS)[:5].tolist())


def test_what_ties_with_the_last_token_kept_is_kept() -> None:
    logits = jnp.float32([1.0, 3.0, 1.0, 0.0])
    for law in (TokenLaw(top_k=2), TokenLaw(top_p=0.8)):
        kept = jnp.isfinite(law.log_weights(logits))
        np.testing.assert_array_equal(kept, [True, True, True, False])


def test_rare_tokens_of_a_rare_block_are_as_rare_as_they_should_be() -> None:
    """600 tokens of 2⁻²³ each: of one running sum in float32 many could not be drawn at all."""
    logits = jnp.full(2 * SIZE, jnp.float32(np.log(2.0**-23))).at[0].set(0.0)
    words = (jnp.full(4096, 2**32 - 2**10, jnp.uint32), jnp.arange(4096, dtype=jnp.uint32) << 20)
    tokens, _, _ = jax.jit(draw)(TokenLaw(), words, jnp.broadcast_to(logits, (4096, 2 * SIZE)))
    counts = np.bincount(tokens)
    assert (counts[-(2 * SIZE % 256) :] >= 4096 // 256).all()


def test_the_first_of_equal_logits_is_taken_at_temperature_zero() -> None:
    tokens, log_probs, _ = drawn(TokenLaw(0.0), 3, jnp.float32([0.0, 2.0, 2.0]), jnp.int32(0))
    assert (tokens == 1).all()
    assert (log_probs == 0).all()


def test_rows_and_positions_have_words_of_their_own() -> None:
    key = jax.random.key_data(jax.random.key(3))
    places = np.indices((8, 8)).reshape(2, -1).astype(np.int32)
    rows = row_words(key, *jnp.asarray(places))
    words = np.concatenate([token_words(rows, jnp.int32(t)) for t in range(8)])
    assert len(np.unique(words)) == 2 * 8 * 64
