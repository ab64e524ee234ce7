"""The transformer is what it says: against NumPy, with and without a cache, and causal."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import special

from simulations.language_model import cache, transformer
from simulations.language_model.attending import attend_causally
from simulations.language_model.cache import Branches, Prefix
from simulations.language_model.text.tokenizers import Vocabulary
from simulations.language_model.transformer import (
    Transformer,
    TransformerConfig,
    next_token_loss,
    num_parameters,
)
from tests.simulations.language_model import oracle

CONFIG = TransformerConfig(vocabulary=Vocabulary.plain(11), width=12, num_layers=2, num_heads=3)
# float32 in two layers; logits reach 17, with 2e-6 in the last place. A wrong mask is off by 0.1.
TOLERANCE = 1.5e-4


@pytest.fixture(scope="module")
def model() -> Transformer:
    """Weights far larger than an untrained model's, so that attention is far from uniform."""
    model = Transformer(CONFIG, rngs=nnx.Rngs(0))
    state = jax.tree.map(lambda leaf: leaf * np.float32(3), nnx.state(model, nnx.Param))
    nnx.update(model, state)
    return model


@nnx.jit
def logits_of(model: Transformer, tokens: jax.Array) -> jax.Array:
    return model(tokens)


@nnx.jit
def prefill(model: Transformer, tokens: jax.Array) -> tuple[jax.Array, Prefix]:
    return model.prefill(tokens, num_slots=9)


@nnx.jit
def step(
    model: Transformer, tokens: jax.Array, prefix: Prefix, branches: Branches
) -> tuple[jax.Array, Branches]:
    return model.step(tokens, prefix, branches)


def row(*tokens: int) -> jax.Array:
    return jnp.asarray([tokens], jnp.int32)


TOKENS = (11, 4, 0, 7, 10, 3, 3)


def test_logits_are_those_of_a_plain_numpy_transformer(model: Transformer) -> None:
    flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
    weights = {"/".join(map(str, path)): np.asarray(leaf[...], np.float64) for path, leaf in flat}
    expected = oracle.logits(weights, list(TOKENS), layers=2, heads=3)
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(logits_of(model, row(*TOKENS))[0], expected, atol=2 * TOLERANCE)


def test_everything_is_float32_even_under_x64(model: Transformer) -> None:
    assert jax.config.read("jax_enable_x64")
    assert logits_of(model, row(*TOKENS)).dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(nnx.state(model)))


@pytest.mark.parametrize("num_read", [1, 4, 6])
def test_the_cache_changes_nothing(model: Transformer, num_read: int) -> None:
    """Whole, and read up to a token and then continued token by token in two ways at once."""
    tokens = jnp.concatenate([row(*TOKENS), row(12, *TOKENS[:6])])  # the second one is padded
    other = jnp.where(tokens < 12, (tokens + 3) % 11, 12)
    logits, prefix = prefill(model, tokens[:, :num_read])
    branches = Branches.empty(prefix, num_branches=2, num_slots=7)
    parts = [jnp.stack([logits, logits], axis=1)]
    for t in range(num_read, 7):
        logits, branches = step(model, jnp.stack([tokens, other], 1)[..., t], prefix, branches)
        parts.append(logits)
    whole = [
        logits_of(model, jnp.concatenate([tokens[:, :num_read], rest[:, num_read:]], axis=1))
        for rest in (tokens, other)
    ]
    seen = slice(None) if num_read > 1 else slice(0, 1)  # one row has read nothing but padding
    expected = jnp.stack(whole, axis=1)[seen, :, num_read - 1 :]
    np.testing.assert_allclose(jnp.stack(parts, axis=2)[seen], expected, atol=TOLERANCE)


def test_a_chosen_branch_becomes_part_of_the_prefix(model: Transformer) -> None:
    tokens = jnp.concatenate([row(*TOKENS), row(12, *TOKENS[:6])])
    _, prefix = prefill(model, tokens[:, :3])
    branches = Branches.empty(prefix, num_branches=2, num_slots=2)
    for t in (3, 4):  # branch 1 holds the tokens proper in row 0, branch 0 in row 1
        both = jnp.stack([tokens[:, t], 9 - tokens[:, t] % 9], axis=1)
        _, branches = step(model, both.at[0].set(both[0, ::-1]), prefix, branches)
    prefix = prefix.append(branches, jnp.array([1, 0]))
    branches = Branches.empty(prefix, num_branches=1, num_slots=1)
    logits, _ = step(model, tokens[:, 5:6], prefix, branches)
    expected = logits_of(model, tokens[:, :6])[:, -1]
    np.testing.assert_allclose(logits[:, 0], expected, atol=TOLERANCE)


def test_a_deep_model_scans_its_layers_to_the_same_numbers(
    model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = jnp.concatenate([row(*TOKENS), row(12, *TOKENS[:6])])

    def continued() -> tuple[list[jax.Array], Prefix]:
        anew = nnx.jit(lambda model, *inputs: model.step(*inputs))
        _, prefix = nnx.jit(lambda model: model.prefill(tokens[:, :3], num_slots=9))(model)
        branches, parts = Branches.empty(prefix, num_branches=3, num_slots=2), []
        for t in (3, 4):
            three = jnp.stack([tokens[:, t], 9 - tokens[:, t] % 9, tokens[:, t] // 2], axis=1)
            logits, branches = anew(model, three, prefix, branches)
            parts.append(logits)
        kept = branches.keep(jnp.array([[2, 0], [1, 2]])).widen(3)
        parts.append(anew(model, tokens[:, 5:6] + jnp.zeros((1, 2), jnp.int32), prefix, kept)[0])
        return parts, prefix.append(branches, jnp.array([1, 2]))

    each = continued()
    with monkeypatch.context() as patch:
        for module in (cache, transformer):
            patch.setattr(module, "is_shallow", lambda num_layers: False)
        patch.setattr(transformer, "UNROLLED", 0)
        scanned = continued()
    for one, other in zip(*(jax.tree.leaves(found) for found in (each, scanned)), strict=True):
        np.testing.assert_allclose(one, other, atol=TOLERANCE)


def test_logits_do_not_see_the_future(model: Transformer) -> None:
    before = logits_of(model, row(*TOKENS))
    after = logits_of(model, row(*TOKENS[:4], 9, 8, 1))
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert jnp.abs(before[:, 4:] - after[:, 4:]).max() > 0.1


def test_logits_see_the_whole_past(model: Transformer) -> None:
    for changed in range(6):
        tokens: list[int] = list(TOKENS)
        tokens[changed] = 1
        difference = logits_of(model, row(*tokens)) - logits_of(model, row(*TOKENS))
        assert jnp.abs(difference)[0, -1].max() > 1e-4


def test_padding_changes_nothing(model: Transformer) -> None:
    pad = CONFIG.vocabulary.pad_id
    plain = logits_of(model, row(*TOKENS))[0]
    padded = logits_of(model, row(pad, pad, *TOKENS, pad))[0]
    np.testing.assert_allclose(padded[2:-1], plain, atol=TOLERANCE)
    assert jnp.isfinite(padded).all()


def test_loss_is_the_sum_over_tokens_that_can_be_emitted(model: Transformer) -> None:
    """BOS (11) and PAD (12) are no targets; EOS (10) is."""
    tokens = row(11, 4, 10, 11, 5, 12)
    log_probs = special.log_softmax(np.asarray(logits_of(model, tokens[:, :-1]))[0], axis=-1)
    expected = -(log_probs[0, 4] + log_probs[1, 10] + log_probs[3, 5])
    total, number = nnx.jit(next_token_loss)(model, tokens)
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    assert number == 3


def test_loss_has_finite_gradients_with_padding(model: Transformer) -> None:
    gradient = nnx.jit(nnx.grad(next_token_loss, has_aux=True))
    gradients, _ = gradient(model, row(12, 12, 11, 4, 10, 12))
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_attention_has_the_derivative_of_its_formula() -> None:
    """Queries in pairs on a key; padding before and after, whose outputs count as well."""
    occupied = jnp.array([[False, False, True, True, True], [True, True, True, True, False]])
    shapes = (10, 3, 2, 4), (10, 3, 4), (10, 3, 4), (10, 3, 2, 4)
    rng = np.random.default_rng(0)
    *inputs, outer = (rng.normal(size=shape).astype(np.float32) for shape in shapes)

    def formula(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        query, key, value = (each.reshape(2, 5, *each.shape[1:]) for each in (query, key, value))
        seen = occupied[:, None] & jnp.tri(5, dtype=bool)[None]
        scores = jnp.einsum("btkgc,bskc->bkgts", query, key) / 2
        weights = jax.nn.softmax(jnp.where(seen[:, None, None], scores, -1e30), axis=-1)
        return jnp.einsum("bkgts,bskc->btkgc", weights, value).reshape(10, 3, 2, 4)

    def attended(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        return attend_causally(query, key, value, occupied)[0]

    def with_derivative(function: Callable[..., jax.Array]) -> tuple[jax.Array, ...]:
        value, pull_back = jax.vjp(function, *inputs)
        return value, *pull_back(outer)

    found, expected = (jax.jit(with_derivative, static_argnums=0)(f) for f in (attended, formula))
    np.testing.assert_allclose(found[0], expected[0], atol=2e-6)
    for one, other in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(one, other, atol=5e-6)


def test_number_of_parameters() -> None:
    tokens, width, layers = 11, 12, 2
    per_layer = 2 * width + 3 * width**2 + width**2 + 2 * 4 * width**2
    expected = (tokens + 1) * width + layers * per_layer + width + width * tokens
    assert num_parameters(Transformer(CONFIG, rngs=nnx.Rngs(0))) == expected


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match=r"width is 10 and num_heads is 3"):
        TransformerConfig(width=10, num_heads=3)
