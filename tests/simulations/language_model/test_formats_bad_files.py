"""Strangers' files: what is wrong is named, and nothing is allocated, run or opened for it."""

import json
import re
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from simulations.language_model.formats import gguf, hugging_face, load_checkpoint, save_checkpoint
from simulations.language_model.text.chat import CheckpointTokenizer
from simulations.language_model.text.tokenizers import Vocabulary

GOLDEN = Path(__file__).parents[2] / "golden" / "checkpoints"
GGUF = GOLDEN / "gguf_llama" / "model.gguf"


def copy(case: str, to: Path, **settings: Any) -> Path:
    """A copy of a checkpoint with other settings."""
    shutil.copytree(GOLDEN / case, to, dirs_exist_ok=True)
    path = to / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return to


@pytest.mark.parametrize(
    ("case", "settings", "message"),
    [
        ("llama", {"model_type": "gemma2"}, "model_type must be one of gpt2, .*, got 'gemma2'"),
        ("llama", {"architectures": ["LlamaForSequenceClassification"]}, "architectures must be"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantization_config must be None"),
        ("llama", {"hidden_act": "relu2"}, "hidden_act must be one of silu, .*, got 'relu2'"),
        ("llama", {"rope_parameters": {"rope_type": "llama3"}}, "rope_type must be 'default'"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2}}, "type must be 'default'"),
        ("llama", {"rope_scaling": 2}, "rope_scaling must be settings by name, got 2"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor must be 1.0"),
        ("llama", {"hidden_size": None}, "has no hidden_size"),
        ("llama", {"hidden_size": "32"}, "hidden_size must be a whole number, got '32'"),
        ("llama", {"hidden_size": True}, "hidden_size must be a whole number, got True"),
        ("llama", {"hidden_size": 2**40}, "hidden_size must be a whole number from 1"),
        ("llama", {"rms_norm_eps": float("nan")}, "rms_norm_eps must be a positive number"),
        ("llama", {"rms_norm_eps": 10**400}, "rms_norm_eps must be a positive number"),
        ("llama", {"mlp_bias": "no"}, "mlp_bias must be true or false, got 'no'"),
        ("llama", {"mlp_bias": True}, r"lacks 'model.layers.0.mlp.down_proj.bias' and 5 more"),
        ("llama", {"eos_token_id": 300}, "eos_token_id must be an id below the vocabulary's 300"),
        ("llama", {"eos_token_id": None}, "eos_token_id must be an id below"),
        ("llama", {"eos_token_id": []}, "eos_token_id must be an id below"),
        ("llama", {"num_hidden_layers": 2**31 - 1}, "has 20 tensors for 2147483647 layers"),
        ("llama", {"num_hidden_layers": 1}, "holds 'model.layers.1.*, which no model of this"),
        ("llama", {"vocab_size": 2**31 - 1}, r"embed_tokens.weight has shape \[300, 32\]"),
        ("gpt_neox", {"hidden_size": 2**30}, r"\[41, 32\], .* says \[41, 1073741824\]"),
        ("llama", {"num_attention_heads": 3}, "num_heads is 3 and num_key_heads is 2"),
        ("llama", {"tie_word_embeddings": False}, "lacks 'lm_head.weight'"),
        ("llama_biased", {"tie_word_embeddings": True}, "lm_head.weight is not .*embed_tokens"),
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window must be False"),
        ("qwen2", {"layer_types": ["sliding_attention"] * 2}, "layer_types must be 'full_att"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("gpt2", {"n_inner": 41}, r"c_proj.weight has shape \[40, 32\], .* says \[41, 32\]"),
    ],
)
def test_settings_that_do_not_fit_are_named(
    case: str, settings: dict, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        hugging_face.load_model(copy(case, tmp_path, **settings))


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, "\xff"])
def test_settings_that_are_no_settings(text: str, tmp_path: Path) -> None:
    copy("llama", tmp_path)
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"config\.json"):
        hugging_face.load_model(tmp_path)


def test_a_place_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere is not there"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"has no config\.json"):
        load_checkpoint(tmp_path)
    copy("llama", tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"has no model\.safetensors: weights are read from"):
        load_checkpoint(tmp_path)


def retold(directory: Path, change: Callable[[dict[str, np.ndarray]], object]) -> Path:
    """The directory with other tensors."""
    path = directory / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    change(tensors)
    safetensors.numpy.save_file(tensors, path)
    return directory


def same(a: Path, b: Path) -> bool:
    """Whether two checkpoints are the same model, bit by bit."""
    one, other = hugging_face.load_model(a), hugging_face.load_model(b)
    arrays = [parameters(one), parameters(other)]
    return one.config == other.config and all(
        np.array_equal(arrays[0][name], arrays[1][name]) for name in arrays[0] | arrays[1]
    )


def parameters(model: Any) -> dict[str, np.ndarray]:
    from flax import nnx

    return {str(path): np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(nnx.state(model))}


def test_tensors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.q_proj.weight"
    for number, (change, message) in enumerate(
        [
            (lambda t: t.pop(name), "lacks 'model.layers.0.self_attn.q_proj.weight'"),
            (lambda t: t.update(extra=np.ones(2, np.float32)), "holds 'extra', which no model"),
            (lambda t: t.update({name: t[name][:5]}), r"q_proj.weight has shape \[5, 32\]"),
            (lambda t: t.update({name: t[name].astype(np.int8)}), "is of type I8: only F64"),
        ]
    ):
        directory = retold(copy("llama", tmp_path / str(number)), change)
        with pytest.raises(ValueError, match=message):
            hugging_face.load_model(directory)


def test_what_older_versions_saved_is_the_same_model(tmp_path: Path) -> None:
    """Without the prefix, with masks, with the head twice, with the flat names of a rotation."""

    def older(tensors: dict[str, np.ndarray]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        tensors["h.0.attn.bias"] = np.ones((1, 1, 16, 16), np.float32)
        tensors["h.0.attn.masked_bias"] = np.ones((), np.float32)
        tensors["lm_head.weight"] = tensors["wte.weight"].copy()

    assert same(retold(copy("gpt2", tmp_path / "gpt2"), older), GOLDEN / "gpt2")
    flat = {"rope_parameters": None, "rotary_pct": 0.25, "rotary_emb_base": 30}
    assert same(copy("gpt_neox", tmp_path / "neox", **flat), GOLDEN / "gpt_neox")
    flat = {"rope_parameters": None, "rope_theta": 40.0, "rope_scaling": None, "head_dim": None}
    assert same(copy("llama", tmp_path / "llama", **flat), GOLDEN / "llama")
    assert not same(copy("llama", tmp_path / "x", rope_parameters=None), GOLDEN / "llama")


@pytest.mark.parametrize("absolute", [False, True])
def test_a_name_in_an_index_never_becomes_a_path(absolute: bool, tmp_path: Path) -> None:
    """Even where such a file exists and is whole."""
    directory = copy("gpt_neox", tmp_path / "inner")
    shard = "model-00002-of-00005.safetensors"
    (directory / shard).rename(tmp_path / shard)
    index = directory / "model.safetensors.index.json"
    outside = str(tmp_path / shard) if absolute else f"../{shard}"
    index.write_text(index.read_text().replace(f'"{shard}"', json.dumps(outside)))
    with pytest.raises(ValueError, match=r"names the file .*, which is not beside it"):
        hugging_face.load_model(directory)


def test_an_index_that_does_not_fit_its_files(tmp_path: Path) -> None:
    directory = copy("gpt_neox", tmp_path)
    index = directory / "model.safetensors.index.json"
    text = index.read_text()
    index.write_text(text.replace("00002-of", "00001-of"))
    with pytest.raises(ValueError, match="does not name the tensors that model-00001"):
        hugging_face.load_model(directory)
    index.write_text('{"weight_map": ["a"]}')
    with pytest.raises(ValueError, match="weight_map must be settings by name"):
        hugging_face.load_model(directory)


def test_damaged_safetensors_are_named(tmp_path: Path) -> None:
    """Cut anywhere, and with sizes that claim what is not there."""
    directory = copy("llama", tmp_path)
    path = directory / "model.safetensors"
    whole = path.read_bytes()
    (header,) = struct.unpack("<Q", whole[:8])
    damaged = [whole[:length] for length in (*range(0, header + 8, 97), len(whole) - 1)]
    damaged += [struct.pack("<Q", size) + whole[8:] for size in (header - 1, 2**40, 2**64 - 1)]
    damaged += [
        re.sub(rb'"data_offsets":\[\d+,', b'"data_offsets":[9,', whole, count=1),
        whole.replace(b'"shape":[300,32]', b'"shape":[301,32]', 1),
        b"PK\x03\x04" + whole,
    ]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.safetensors is damaged or no safetensors"):
            hugging_face.load_model(directory)


def test_tokenizers_that_do_not_fit_are_named(tmp_path: Path) -> None:
    directory = copy("llama", tmp_path)
    (directory / "chat_template.jinja").unlink()
    (directory / "tokenizer_config.json").write_text('{"chat_template": [{"name": "x"}]}')
    with pytest.raises(ValueError, match="chat_template must be one template, got a list"):
        hugging_face.load_tokenizer(directory)
    (directory / "tokenizer_config.json").unlink()
    tokenizer = hugging_face.load_tokenizer(directory)
    with pytest.raises(ValueError, match="has no chat template"):
        tokenizer.chat([])
    (directory / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"is not a tokenizer\.json"):
        hugging_face.load_tokenizer(directory)
    (directory / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"has no tokenizer\.json: write one"):
        hugging_face.load_tokenizer(directory)
    shutil.copy(GOLDEN / "llama" / "tokenizer.json", copy("llama_biased", tmp_path / "small"))
    with pytest.raises(ValueError, match="tokenizer has ids up to 279, but the vocabulary ends"):
        hugging_face.load_tokenizer(tmp_path / "small")


def test_of_several_ends_the_tokenizers_counts(tmp_path: Path) -> None:
    directory = copy("llama", tmp_path, eos_token_id=[1, 2, 5], bos_token_id=None)
    assert hugging_face.load_tokenizer(directory).vocabulary == Vocabulary(300, 2, 2)
    (directory / "tokenizer_config.json").unlink()
    assert hugging_face.load_tokenizer(directory).vocabulary == Vocabulary(300, 1, 1)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages.__class__.__mro__ }}", "access to attribute '__class__'"),
        ("{{ messages.append(1) }}", "access to attribute 'append'"),
        ("{{ raise_exception('one at a time') }}", "one at a time"),
        ("{% for m in messages %}", "Unexpected end of template"),
        ("{{ 1 // 0 }}", "division"),
        ("{% include 'x' %}", "no loader"),
    ],
)
def test_a_chat_template_is_confined(template: str, message: str) -> None:
    tokenizer = hugging_face.load_tokenizer(GOLDEN / "llama")
    with pytest.raises(ValueError, match=f"chat template refuses the messages .*{message}"):
        replace(tokenizer, chat_template=template).chat([{"role": "user", "content": "Hi"}])


GGUF_BYTES = GGUF.read_bytes()
TENSORS_AT = GGUF_BYTES.index(b"token_embd.weight") - 8
"""Where tensors are described; about 1,200 bytes further come their numbers."""


def written(to: Path, content: bytes) -> Path:
    path = to / "x.gguf"
    path.write_bytes(content)
    return path


def test_a_gguf_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    lengths = (*range(0, 7000, 61), *range(7000, len(GGUF_BYTES), 4001), len(GGUF_BYTES) - 1)
    for length in lengths:
        path = written(tmp_path, GGUF_BYTES[:length])
        with pytest.raises(ValueError, match=r"x\.gguf (is cut short|is no GGUF)"):
            gguf.read(path)


def test_a_gguf_file_with_a_wrong_byte_is_read_or_refused(tmp_path: Path) -> None:
    """Whatever it claims: no other error, and nothing that takes long or is large."""
    refusals = []
    for position in (*range(4, 600), *range(600, TENSORS_AT, 97), *range(TENSORS_AT, 6900, 3)):
        wrong = bytes([GGUF_BYTES[position] ^ 0x81])
        path = written(tmp_path, GGUF_BYTES[:position] + wrong + GGUF_BYTES[position + 1 :])
        try:
            contents = gguf.read(path)
            gguf.config_of(contents, "float32")
        except ValueError as error:
            refusals.append(str(error))
    assert len(refusals) > 500
    assert all("x.gguf" in refusal or "num_heads" in refusal for refusal in refusals)


def claim(kind: int, body: bytes, *, settings: int = 1, tensors: int = 0) -> bytes:
    """A file with one setting, of a type and with the bytes of a value, and much room after it."""
    start = b"GGUF" + struct.pack("<IQQ", 3, tensors, settings)
    return start + struct.pack("<Q1sI", 1, b"a", kind) + body + bytes(200)


def tensor(shape: tuple[int, ...], kind: int, offset: int, rank: int | None = None) -> bytes:
    """A file with one tensor."""
    start = b"GGUF" + struct.pack("<IQQ", 3, 1, 0)
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape) if rank is None else rank, *shape)
    return (
        start + struct.pack("<Q1s", 1, b"a") + sizes + struct.pack("<IQ", kind, offset) + bytes(400)
    )


HUGE = 2**63
_STRING, _ARRAY, _F32, _Q8_0 = 8, 9, 0, 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (claim(4, b"", settings=HUGE), "too few for as many tensors and settings as it claims"),
        (claim(4, b"", tensors=HUGE), "too few for as many tensors and settings as it claims"),
        (claim(_STRING, struct.pack("<Q", HUGE)), "too few for a text of 9223372036854775808"),
        (claim(_STRING, struct.pack("<Q1s", 1, b"\xff")), "is not UTF-8"),
        (claim(_ARRAY, struct.pack("<IQ", 4, HUGE)), "too few for 9223372036854775808 numbers"),
        (claim(_ARRAY, struct.pack("<IQ", _STRING, HUGE)), "too few for 9223372036854775808 texts"),
        (claim(_ARRAY, struct.pack("<IQ", _ARRAY, 1)), "'a' has the unknown type 9"),
        (claim(13, b""), "'a' has the unknown type 13"),
        (tensor((2**40, 2**40), _F32, 0), r"is cut short: 'a' ends at byte 48\d+"),
        (tensor((64,), _F32, 2**63), "is cut short: 'a' ends at byte 9223372036854776"),
        (tensor((0,), _F32, 0), r"'a' has the shape \[0\]"),
        (tensor((), _F32, 0), "'a' has 0 axes"),
        (tensor((1,) * 5, _F32, 0), "'a' has 5 axes"),
        (tensor((1,), _F32, 0, rank=2**31), "'a' has 2147483648 axes"),
        (tensor((33,), _Q8_0, 0), "'a' has rows of 33 numbers, and Q8_0 has blocks of 32"),
        (tensor((1,), 999, 0), "'a' is of the unknown type 999"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(99), "is GGUF of version 1: convert"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(99), "is GGUF of version 50331648: convert"),
        (b"PK\x03\x04" + bytes(99), "is no GGUF file"),
    ],
)
def test_what_a_gguf_file_claims_is_checked(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        gguf.read(written(tmp_path, content))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"general.architecture": "gemma2"}, "general.architecture must be one of llama, qwen2"),
        ({"llama.attention.sliding_window": 4}, "sets attention.sliding_window of llama"),
        ({"llama.expert_count": 8}, "sets expert_count of llama, which is not implemented"),
        ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.type must be 'none'"),
        ({"llama.attention.value_length": 9}, "llama.attention.value_length must be 8"),
        ({"llama.vocab_size": 299}, "llama.vocab_size must be 300"),
        ({"llama.block_count": 10**9}, "has 20 tensors for 1000000000 layers"),
        ({"llama.rope.dimension_count": 7}, "rotate 7 coordinates"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.model must be one of gpt2, got 'llama"),
        ({"tokenizer.ggml.pre": "deepseek"}, "tokenizer.ggml.pre must be one of gpt-2, smollm"),
        ({"tokenizer.ggml.tokens": [1, 2]}, "tokenizer.ggml.tokens must be a list of texts"),
        ({"tokenizer.ggml.tokens": ["a"] * 300}, "tokenizer.ggml.tokens has a token twice"),
        ({"tokenizer.ggml.merges": ["x y"]}, "tokenizer.ggml.merges do not fit the tokens"),
        ({"tokenizer.ggml.token_type": [1]}, "tokenizer.ggml.token_type must be a list of 300"),
        ({"tokenizer.ggml.eos_token_id": 2**31}, "eos_token_id must be an id below"),
        ({"tokenizer.chat_template": 3}, "tokenizer.chat_template must be a text"),
    ],
)
def test_settings_of_gguf_files_that_do_not_fit_are_named(
    settings: dict, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = gguf.read(GGUF)
    values = {**contents.settings.values, **settings}
    changed = replace(contents, settings=replace(contents.settings, values=values))
    monkeypatch.setattr(gguf, "read", lambda path: changed)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(GGUF)


def test_a_quantisation_that_cannot_be_undone_is_named(tmp_path: Path) -> None:
    i32 = 26
    contents = gguf.read(written(tmp_path, tensor((4,), i32, 0)))
    with pytest.raises(ValueError, match="'a' is of type I32, which the gguf package does not"):
        contents.tensors["a"].read()


def test_a_checkpoint_is_written_whole_and_never_over_another(tmp_path: Path) -> None:
    model, tokenizer = load_checkpoint(GOLDEN / "llama")
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file"):
        with pytest.raises(ValueError, match="holds something already"):
            save_checkpoint(place, model, tokenizer)
    other = CheckpointTokenizer(tokenizer.tokenizer, Vocabulary(300, 3, 1))
    with pytest.raises(ValueError, match="pass the tokenizer that belongs to the model"):
        save_checkpoint(tmp_path / "new", model, other)
    model.config = replace(model.config, norm="layer")
    with pytest.raises(ValueError, match="the nearest, llama, has no norm 'layer'"):
        save_checkpoint(tmp_path / "new", model, tokenizer)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
