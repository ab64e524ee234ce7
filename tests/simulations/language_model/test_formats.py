"""Checkpoints of each family give the logits that transformers gives, however they are computed.

The tiny checkpoints and their logits are in tests/golden/checkpoints, with the program that made
them; every setting and every tensor there shows in the logits.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import tokenizers

from simulations.language_model.formats import gguf, hugging_face, load_checkpoint, save_checkpoint
from simulations.language_model.formats.families import FAMILIES
from simulations.language_model.formats.names import GGUF_LLAMA, LLAMA
from simulations.language_model.generate import greedy
from simulations.language_model.text.chat import CheckpointTokenizer, chat_prompts
from simulations.language_model.text.tokenizers import encode_prompts
from simulations.language_model.transformer import Transformer
from tests.simulations.language_model.passes import differences, error, whole

GOLDEN = Path(__file__).parents[2] / "golden" / "checkpoints"
CASES = ("gpt2", "gpt_neox", "gpt_neox_serial", "llama", "llama_biased", "qwen2")
GGUF_CASES = ("gguf_llama", "gguf_qwen2")
# Logits reach 10 to 30; two layers of float32 sums of forty terms, in another order.
TOLERANCE = 1e-4


def load(case: str) -> Transformer:
    if case in GGUF_CASES:
        return load_checkpoint(GOLDEN / case / "model.gguf")[0]
    return hugging_face.load_model(GOLDEN / case)


def golden(case: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(GOLDEN / case / "logits.npz") as file:
        return file["tokens"], file["logits"]


@pytest.mark.parametrize("case", [*CASES, *GGUF_CASES])
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
    assert error(load("gguf_llama"), *golden("gguf_llama")) > 0.1


def tensors(directory: Path) -> dict[str, np.ndarray]:
    files = [safetensors.numpy.load_file(path) for path in directory.glob("*.safetensors")]
    return {name: array for file in files for name, array in file.items()}


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_is_what_transformers_wrote(case: str, tmp_path: Path) -> None:
    """Names and numbers, bit by bit, in the file's own precision; and settings that mean the same.

    So a checkpoint survives being read and written, and transformers reads what is written here.
    """
    dtype = "bfloat16" if case == "llama_biased" else "float32"
    model = hugging_face.load_model(GOLDEN / case, dtype=dtype)
    save_checkpoint(tmp_path / "new", model, words(model), max_shard_bytes=20_000)
    ours, theirs = tensors(tmp_path / "new"), tensors(GOLDEN / case)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
    again = hugging_face.load_model(tmp_path / "new", dtype=dtype)
    assert again.config == model.config
    written = [
        json.loads((d / "config.json").read_text()) for d in (tmp_path / "new", GOLDEN / case)
    ]
    for name in ("architectures", "model_type", "dtype", "bos_token_id", "eos_token_id"):
        assert written[0][name] == written[1][name]


def words(model: Transformer) -> CheckpointTokenizer:
    """A tokenizer with one word per id."""
    vocabulary = model.config.vocabulary
    ids = {f"w{index}": index for index in range(vocabulary.num_tokens)}
    word_level = tokenizers.models.WordLevel(ids, unk_token="w0")
    return CheckpointTokenizer(tokenizers.Tokenizer(word_level), vocabulary)


def test_shards_are_no_larger_than_asked_for(tmp_path: Path) -> None:
    model = load("gpt_neox_serial")
    save_checkpoint(tmp_path / "new", model, words(model), max_shard_bytes=13_000)
    sizes = [
        sum(array.nbytes for array in safetensors.numpy.load_file(path).values())
        for path in (tmp_path / "new").glob("*.safetensors")
    ]
    index = json.loads((tmp_path / "new" / "model.safetensors.index.json").read_text())
    assert len(sizes) == len(set(index["weight_map"].values())) > 3
    assert max(sizes) <= 13_000
    assert sum(sizes) == index["metadata"]["total_size"]


def test_an_interrupted_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load("gpt2")

    def full(*args: Any, **options: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(tmp_path / "new", model, words(model))
    assert list(tmp_path.iterdir()) == []


TEXTS = ("the cat sat on the mat", "\n\n12. a hat", "é<end> <start>", "")


def test_both_kinds_of_files_have_the_same_tokens_and_chats(tmp_path: Path) -> None:
    """Also after a round trip; digits stand alone, and special tokens are one id each."""
    model, read = load_checkpoint(GOLDEN / "llama")
    save_checkpoint(tmp_path / "new", model, read)
    chat = [{"role": "user", "content": "a cat"}]
    for tokenizer in (
        read,
        load_checkpoint(GOLDEN / "gguf_llama" / "model.gguf")[1],
        load_checkpoint(tmp_path / "new")[1],
    ):
        assert tokenizer.vocabulary == model.config.vocabulary
        assert not tokenizer.starts_with_bos
        for text in TEXTS:
            ids = tokenizer.encode(text)
            np.testing.assert_array_equal(ids, read.encode(text))
            assert read.tokenizer.decode(ids.tolist(), skip_special_tokens=False) == text
        assert tokenizer.chat(chat) == "<start>user\na cat<end>\n\n<start>assistant\n"
        prompts = chat_prompts([chat, [{"role": "user", "content": "cat"}]], tokenizer)
        assert prompts[0, 0] == 1
        assert prompts[1, 0] == tokenizer.vocabulary.pad_id
    assert len(read.encode("12.")) == 3
    assert read.encode("<end>").tolist() == [2]


def test_a_tokenizer_that_begins_with_bos_says_so(tmp_path: Path) -> None:
    """As its own post-processing does."""
    shutil.copytree(GOLDEN / "llama", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "tokenizer.json"
    text = json.loads(path.read_text())
    text["post_processor"]["single"].insert(0, {"SpecialToken": {"id": "<start>", "type_id": 0}})
    special = {"id": "<start>", "ids": [1], "tokens": ["<start>"]}
    text["post_processor"]["special_tokens"] = {"<start>": special}
    path.write_text(json.dumps(text))
    tokenizer = hugging_face.load_tokenizer(tmp_path)
    assert tokenizer.starts_with_bos
    assert encode_prompts(["a"], tokenizer)[0, 0] == 1
    prompts = chat_prompts([[{"role": "user", "content": "a"}]], tokenizer)
    assert (prompts == 1).sum() == 2  # the template's own, and no third


def test_greedy_answers_take_the_most_probable_token_each_time() -> None:
    """One prompt padded, against the whole sequence read anew; after EOS nothing is said."""
    model, _ = load_checkpoint(GOLDEN / "llama")
    end, pad = model.config.vocabulary.eos_id, model.config.vocabulary.pad_id
    prompts = np.array([[pad, 1, 9], [1, 7, 11]], np.int32)
    answers = greedy(model, prompts, max_new_tokens=6)
    for prompt, answer in zip(prompts, answers, strict=True):
        row = np.hstack([prompt, answer, np.full(11 - 9, pad)]).astype(np.int32)
        logits = np.asarray(whole(model, jnp.asarray(np.stack([row] * 4)[:, :9])))[0]
        ended = False
        for place, token in enumerate(answer, 2):
            assert token == (pad if ended else logits[place].argmax())
            ended |= token == end
    with pytest.raises(ValueError, match="max_new_tokens is 62 after a prompt of 3"):
        greedy(model, prompts, max_new_tokens=62)
