"""Checkpoints of each family give the logits that transformers gives, however they are computed.

The tiny checkpoints and their logits are in tests/golden/checkpoints, with the program that made
them; every setting and every tensor there shows in the logits.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from simulations.language_model.formats import gguf, hugging_face, load_checkpoint
from simulations.language_model.formats.families import FAMILIES
from simulations.language_model.formats.names import GGUF_LLAMA, LLAMA
from simulations.language_model.transformer import Transformer
from tests.simulations.language_model.passes import differences, error

GOLDEN = Path(__file__).parents[2] / "golden" / "checkpoints"
CASES = ("gpt2", "gpt_neox", "gpt_neox_serial", "llama", "llama_biased", "qwen2", "gguf")
# Logits reach 10 to 30; two layers of float32 sums of forty terms, in another order.
TOLERANCE = 1e-4


def load(case: str) -> Transformer:
    if case == "gguf":
        return load_checkpoint(GOLDEN / case / "llama.gguf")[0]
    return hugging_face.load_model(GOLDEN / case)


def golden(case: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(GOLDEN / case / "logits.npz") as file:
        return file["tokens"], file["logits"]


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_transformers(case: str) -> None:
    tokens, expected = golden(case)
    assert np.ptp(expected) > 5
    assert max(differences(load(case), tokens, expected).values()) < TOLERANCE


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
    assert error(hugging_face.load_model(changed), *golden(case)) > 2 * TOLERANCE


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
    assert error(load("gpt_neox"), *golden("gpt_neox")) > 1


def test_gate_and_up_in_each_others_place_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, up = LLAMA.modules["layers.perceptron.expand"]
    wrong = {**LLAMA.modules, "layers.perceptron.expand": (up, gate)}
    plant(monkeypatch, "llama", modules=wrong)
    assert error(load("llama"), *golden("llama")) > 1


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
    assert error(load("gguf"), *golden("gguf")) > 0.1
