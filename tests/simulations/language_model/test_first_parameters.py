"""What training begins with is known of the text before any layer has learnt."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from simulations.language_model.attending import rotation_by
from simulations.language_model.first_parameters import look_back, pair_counts, start_from_pairs
from simulations.language_model.text.tokenizers import Vocabulary
from simulations.language_model.transformer import (
    Transformer,
    TransformerConfig,
)
from simulations.language_model.windows import chunks


def test_training_starts_from_the_law_of_pairs() -> None:
    """A chain in which each token has two successors: that is known, and layers add nothing."""
    steps = np.random.default_rng(0).choice([1, 5], p=[0.75, 0.25], size=4000)
    stream = np.cumsum(steps) % 17
    model = Transformer(TransformerConfig(width=16, num_layers=1), rngs=nnx.Rngs(0))
    start_from_pairs(model, stream, 60)
    read = nnx.jit(lambda model, tokens: jax.nn.softmax(model(tokens)))
    law = np.asarray(read(model, stream[None, :200].astype(np.int32)))[0]
    for token in range(17):
        rows = law[stream[:200] == token]
        np.testing.assert_allclose(rows[:, (token + 1) % 17], 0.75, atol=0.12)
        np.testing.assert_allclose(rows[:, (token + 5) % 17], 0.25, atol=0.12)
        assert np.ptp(rows, axis=0).max() < 1e-5  # whatever came before


@pytest.mark.parametrize(
    ("heads", "key_heads", "fraction"), [(2, 2, 1.0), (4, 2, 1.0), (2, 1, 0.5), (3, 3, 0.25)]
)
def test_heads_of_the_first_layer_start_by_looking_at_the_tokens_before(
    heads: int, key_heads: int, fraction: float
) -> None:
    """Of tokens alike, key head k gives the one k + 1 before at least e⁴ times any other."""
    config = TransformerConfig(
        width=64 * heads,
        num_layers=2,
        num_heads=heads,
        num_key_heads=key_heads,
        attention_bias=True,
        rotary_fraction=fraction,
    )
    model = Transformer(config, rngs=nnx.Rngs(0))
    bias = model.layers.attention.project.bias
    assert bias is not None
    before = np.asarray(bias[...])
    look_back(model)
    after = np.asarray(bias[...])
    np.testing.assert_array_equal(after[1], before[1])
    np.testing.assert_array_equal(after[0, 64 * (heads + key_heads) :], 0)  # of the values

    queries, keys, _ = np.split(after[0], [64 * heads, 64 * (heads + key_heads)])
    turn = rotation_by(jnp.arange(12, dtype=jnp.int32), 12, config.rotated, config.rotary_base)
    query, key = (
        np.asarray(jax.jit(turn)(np.tile(own.reshape(1, -1, 64), (12, 1, 1))))
        for own in (queries, keys)
    )
    for head in range(heads):
        group = head // (heads // key_heads)
        scores = query[11, head] @ key[:, group].T / 8
        back = np.argsort(-scores)
        assert 11 - back[0] == group + 1
        assert scores[back[0]] - scores[back[1]] == pytest.approx(4, abs=1e-3)


def test_counts_of_pairs_cross_the_parts_that_a_long_stream_is_read_in() -> None:
    stream, vocabulary = np.array([0, 1, 0, 1, 1, 2, 3, 0]), Vocabulary.plain(3)
    counts = pair_counts(stream, vocabulary)
    np.testing.assert_array_equal(counts, [[0, 2, 0], [1, 1, 1], [0, 0, 0], [1, 0, 0]])
    parts = chunks(stream, size=3, overlap=1)
    assert [part.tolist() for part in parts] == [[0, 1, 0, 1], [1, 1, 2, 3], [3, 0]]
