"""Checkpoints of each family give the logits that transformers gives, however they are computed.

The tiny checkpoints and their logits are in tests/golden/checkpoints, with the program that made
them; every setting and every tensor there shows in the logits.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from simulations.language_model.cache import Branches
from simulations.language_model.formats import gguf, hugging_face, load_checkpoint
from simulations.language_model.formats.families import FAMILIES
from simulations.language_model.formats.names import GGUF_LLAMA, LLAMA
from simulations.language_model.transformer import Transformer

GOLDEN = Path(__file__).parents[2] / "golden" / "checkpoints"
CASES = ("gpt2", "gpt_neox", "gpt_neox_serial", "llama", "llama_biased", "qwen2", "gguf")
# Logits reach 10 to 30; two layers of float32 sums of forty terms, in another order.
TOLERANCE = 1e-4
READ = 3  # tokens that are prefilled, the others are decoded one by one


def load(case: str) -> Transformer:
    if case == "gguf":
        return load_checkpoint(GOLDEN / case / "llama.gguf")[0]
    return hugging_face.load_model(GOLDEN / case)


def golden(case: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(GOLDEN / case / "logits.npz") as file:
        return file["tokens"], file["logits"]


@nnx.jit
def whole(model: Transformer, tokens: jax.Array) -> jax.Array:
    return model(tokens)


@nnx.jit
def token_by_token(model: Transformer, tokens: jax.Array) -> jax.Array:
    """Logits from the last prefilled token on, ``[B, T − READ + 1, V]``."""
    first, prefix = model.prefill(tokens[:, :READ])
    branches = Branches.empty(prefix, 1, tokens.shape[1] - READ)

    def step(branches: Branches, token: jax.Array) -> tuple[Branches, jax.Array]:
        logits, branches = model.step(token[:, None], prefix, branches)
        return branches, logits[:, 0]

    _, rest = jax.lax.scan(step, branches, tokens[:, READ:].T)
    return jnp.concatenate([first[:, None], rest.swapaxes(0, 1)], axis=1)


def padded(tokens: np.ndarray, model: Transformer) -> jax.Array:
    """Each row once with PAD to the right and once with PAD to the left."""
    pad = np.full((len(tokens), 2), model.config.vocabulary.pad_id, np.int32)
    rows = np.concatenate([np.hstack([tokens, pad]), np.hstack([pad, tokens])])
    return jnp.asarray(rows)


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_transformers(case: str) -> None:
    model, (tokens, expected) = load(case), golden(case)
    assert np.ptp(expected) > 5
    both = np.asarray(whole(model, padded(tokens, model)))
    alone, left_padded = both[:2, :-2], both[2:, 2:]
    np.testing.assert_allclose(alone, expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(left_padded, expected, rtol=0, atol=TOLERANCE)
    decoded = token_by_token(model, jnp.asarray(tokens))
    np.testing.assert_allclose(decoded, expected[:, READ - 1 :], rtol=0, atol=TOLERANCE)


def error(model: Transformer, case: str) -> float:
    tokens, expected = golden(case)
    both = whole(model, padded(tokens, model))
    return float(np.abs(np.asarray(both)[:2, :-2] - expected).max())


@pytest.mark.parametrize(
    ("case", "setting"),
    [
        ("gpt2", {"layer_norm_epsilon": 0.0301}),
        ("gpt2", {"activation_function": "gelu"}),
        ("gpt_neox", {"use_parallel_residual": False}),
        ("gpt_neox", {"rope_parameters": {"rope_theta": 30.0, "partial_rotary_factor": 0.5}}),
        ("llama", {"rope_parameters": {"rope_theta": 40.1}}),
        ("llama", {"rms_norm_eps": 0.0201}),
    ],
)
def test_a_wrong_setting_is_seen(case: str, setting: dict, tmp_path: Path) -> None:
    changed = changed_copy(case, tmp_path, **setting)
    assert error(hugging_face.load_model(changed), case) > 2 * TOLERANCE


def changed_copy(case: str, to: Path, **settings: Any) -> Path:
    """A copy of a checkpoint with other settings; None takes one out."""
    shutil.copytree(GOLDEN / case, to, dirs_exist_ok=True)
    path = to / "config.json"
    values = json.loads(path.read_text()) | settings
    path.write_text(json.dumps({name: v for name, v in values.items() if v is not None}))
    return to


def plant(monkeypatch: pytest.MonkeyPatch, family: str, **changes: Any) -> None:
    """Another table of names for a family."""
    right = FAMILIES[family]
    wrong = replace(right, names=replace(right.names, **changes))
    monkeypatch.setitem(cast(dict, FAMILIES), family, wrong)


def test_heads_that_are_not_taken_apart_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "gpt_neox", orders=None)
    assert error(load("gpt_neox"), "gpt_neox") > 1


def test_gate_and_up_in_each_others_place_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, up = LLAMA.modules["layers.perceptron.expand"]
    wrong = {**LLAMA.modules, "layers.perceptron.expand": (up, gate)}
    plant(monkeypatch, "llama", modules=wrong)
    assert error(load("llama"), "llama") > 1


def test_weights_that_are_not_transposed_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, "gpt2", inputs_first=False)
    with pytest.raises(ValueError, match=r"c_attn\.weight has shape \[32, 96\]"):
        load("gpt2")


@pytest.mark.parametrize("left_out", ["blk.{}.attn_q", "blk.{}.attn_k", None])
def test_pairs_that_are_not_put_back_are_seen(
    left_out: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = {name: order for name, order in (GGUF_LLAMA.orders or {}).items() if name == left_out}
    monkeypatch.setitem(gguf.ARCHITECTURES, "llama", replace(GGUF_LLAMA, orders=orders))
    assert error(load("gguf"), "gguf") > 0.1
