"""Directories as the ``transformers`` library writes them: config.json, safetensors, tokenizer.

The files are read as data: nothing in them is run, sizes and offsets are checked before anything is
allocated (by the ``safetensors`` library, and against config.json here), and a name that a file
holds is looked up among the files of its directory, never joined to a path.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.numpy

from simulations.language_model.formats.families import ModelFamily, read_settings, write_settings
from simulations.language_model.formats.fields import Fields, read_json
from simulations.language_model.formats.names import StoredTensor, assemble, disassemble
from simulations.language_model.text.chat import CheckpointTokenizer
from simulations.language_model.text.tokenizers import SubwordTokenizer, read_tokenizer_json
from simulations.language_model.transformer import Transformer, TransformerConfig

WEIGHTS = "model.safetensors"
_LONGEST_TOKENIZER = 256 * 2**20  # bytes of a tokenizer.json: the largest have 30 million
_FLOATS = ("F64", "F32", "F16", "BF16")


def load_model(
    directory: Path, *, dtype: Literal["float32", "bfloat16"] = "float32"
) -> Transformer:
    """The model of a directory in the format of the ``transformers`` library.

    Args:
        directory: with config.json and model.safetensors, or shards and their index; of the
            families GPT-2, GPT-NeoX, Llama and Qwen2.
        dtype: of parameters and activations, whatever the file's.

    Raises:
        ValueError: a setting or a tensor that is missing, unknown, malformed or not implemented,
            which it names; a file that is damaged.
    """
    family, config = _read_settings(directory)
    with contextlib.ExitStack() as files:
        tensors = _tensors(directory, files)
        config = replace(config, dtype=dtype)
        return assemble(config, family.names, tensors, source=str(directory))


def load_tokenizer(directory: Path) -> CheckpointTokenizer:
    """The tokenizer of a directory in the format of the ``transformers`` library.

    Args:
        directory: with config.json and tokenizer.json, and with tokenizer_config.json or
            chat_template.jinja where there is a chat template.

    Raises:
        ValueError: a file that is missing or damaged, or ids that the model does not have.
    """
    _, config = _read_settings(directory)
    tokenizer = _tokenizer(directory)
    # Whether a text begins with BOS is what the file's own post-processing does with one.
    started = tokenizer.encode("a", add_special_tokens=True).ids[:1]
    template = directory / "chat_template.jinja"
    if template.is_file():
        chat_template = template.read_text(encoding="utf-8")
    else:
        chat_template = _tokenizer_settings(directory).get("chat_template")
    if not isinstance(chat_template, str | None):
        raise ValueError(
            f"{directory / 'tokenizer_config.json'}: chat_template must be one template, got a "
            f"{type(chat_template).__name__}: choose one of them"
        )
    return CheckpointTokenizer(
        tokenizer,
        config.vocabulary,
        starts_with_bos=started == [config.vocabulary.bos_id],
        chat_template=chat_template,
    )


def save_checkpoint(
    directory: Path,
    model: Transformer,
    tokenizer: SubwordTokenizer,
    *,
    max_shard_bytes: int = 5 * 10**9,
) -> None:
    """Write what ``transformers`` loads with equal logits; the directory appears whole or not.

    Args:
        directory: that does not exist yet, or is empty.
        model: of an architecture that one of the families has.
        tokenizer: of the model.
        max_shard_bytes: of a file of weights; a larger model is written as several.

    Raises:
        ValueError: the directory holds something, no family has such a model, or the tokenizer is
            another model's.
    """
    if tokenizer.vocabulary != model.config.vocabulary:
        raise ValueError(
            f"tokenizer has {tokenizer.vocabulary} and the model {model.config.vocabulary}: pass "
            "the tokenizer that belongs to the model"
        )
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ValueError(f"{directory} holds something already: name a new directory")
    family, settings = write_settings(model.config)
    ends = {
        name: tokenizer.tokenizer.id_to_token(settings[f"{name}_id"])
        for name in ("bos_token", "eos_token")
    }
    about = {"tokenizer_class": "PreTrainedTokenizerFast", **ends}
    texts = {
        "config.json": json.dumps(settings, indent=2) + "\n",
        "tokenizer.json": tokenizer.tokenizer.to_str(pretty=True),
        "tokenizer_config.json": json.dumps(about, indent=2, ensure_ascii=False) + "\n",
    }
    if isinstance(tokenizer, CheckpointTokenizer) and tokenizer.chat_template is not None:
        texts["chat_template.jinja"] = tokenizer.chat_template

    directory.parent.mkdir(parents=True, exist_ok=True)
    unfinished = directory.with_name(f".{directory.name}.{os.getpid()}")
    unfinished.mkdir()
    try:
        for name, text in texts.items():
            (unfinished / name).write_text(text, encoding="utf-8")
        _write_tensors(unfinished, disassemble(model, family.names), model.config, max_shard_bytes)
        unfinished.rename(directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _read_settings(directory: Path) -> tuple[ModelFamily, TransformerConfig]:
    """Family and model, with the tokenizer's EOS where config.json has several."""
    fields = read_json(directory / "config.json")
    ends = fields.get("eos_token_id")
    if isinstance(ends, list) and len(ends) > 1 and (directory / "tokenizer.json").is_file():
        text = _tokenizer_settings(directory).get("eos_token")
        text = text.get("content") if isinstance(text, dict) else text
        end = _tokenizer(directory).token_to_id(text) if isinstance(text, str) else None
        if end in ends:
            fields = replace(fields, values={**fields.values, "eos_token_id": end})
    return read_settings(fields)


def _tokenizer_settings(directory: Path) -> Fields:
    path = directory / "tokenizer_config.json"
    return read_json(path) if path.is_file() else Fields(str(path), {})


def _tokenizer(directory: Path) -> Any:
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise ValueError(
            f"{directory} has no tokenizer.json: write one with `transformers`, by "
            "AutoTokenizer.from_pretrained(directory).save_pretrained(directory)"
        )
    if path.stat().st_size > _LONGEST_TOKENIZER:
        raise ValueError(f"{path} has {path.stat().st_size} bytes: tokenizers have some millions")
    return read_tokenizer_json(path)


def _tensors(directory: Path, files: contextlib.ExitStack) -> dict[str, StoredTensor]:
    """The tensors of all files of weights, open until ``files`` are closed."""
    index = directory / f"{WEIGHTS}.index.json"
    if (directory / WEIGHTS).is_file() or not index.is_file():
        return _open(directory / WEIGHTS, files)
    shards = read_json(index).inner("weight_map").values
    present = {path.name: path for path in directory.glob("*.safetensors")}
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted({str(name) for name in shards.values()}):
        if shard not in present:
            raise ValueError(f"{index} names the file {shard!r:.80}, which is not beside it")
        found = _open(present[shard], files)
        if found.keys() != {name for name, place in shards.items() if place == shard}:
            raise ValueError(f"{index} does not name the tensors that {shard} holds: get both anew")
        tensors |= found
    return tensors


def _open(path: Path, files: contextlib.ExitStack) -> dict[str, StoredTensor]:
    """The tensors of one file."""
    if not path.is_file():
        raise ValueError(
            f"{path.parent} has no {path.name}: weights are read from safetensors files alone, "
            "since other kinds can run what they hold"
        )
    try:
        file = files.enter_context(safetensors.safe_open(path, framework="numpy"))
        parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is damaged or no safetensors file ({error!s:.80}): get it again"
        ) from error
    for name, part in parts.items():
        if part.get_dtype() not in _FLOATS:
            raise ValueError(
                f"{path}: {name[:80]!r} is of type {part.get_dtype()}: only {', '.join(_FLOATS)} "
                "are read, so convert a quantised model first"
            )
    return {
        name: StoredTensor(tuple(part.get_shape()), partial(file.get_tensor, name))
        for name, part in parts.items()
    }


def _write_tensors(
    directory: Path, tensors: Mapping[str, StoredTensor], config: TransformerConfig, max_bytes: int
) -> None:
    """Files of at most ``max_bytes``, each made in memory alone, and their index if several."""
    shards = list(_shards(tensors, 2 if config.dtype == "bfloat16" else 4, max_bytes))
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = WEIGHTS
        if len(shards) > 1:
            file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        arrays = {name: tensors[name].read() for name in names}
        safetensors.numpy.save_file(arrays, directory / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    if len(shards) > 1:
        size = sum(_size(tensors[name]) for name in weight_map)
        itemsize = 2 if config.dtype == "bfloat16" else 4
        about = {"metadata": {"total_size": size * itemsize}, "weight_map": weight_map}
        (directory / f"{WEIGHTS}.index.json").write_text(json.dumps(about, indent=2) + "\n")


def _shards(
    tensors: Mapping[str, StoredTensor], itemsize: int, max_bytes: int
) -> Iterator[list[str]]:
    """Names in groups of at most ``max_bytes``, or of one tensor that is larger."""
    group, size = [], 0
    for name, tensor in tensors.items():
        more = _size(tensor) * itemsize
        if group and size + more > max_bytes:
            yield group
            group, size = [], 0
        group.append(name)
        size += more
    yield group


def _size(tensor: StoredTensor) -> int:
    return int(np.prod(tensor.shape, dtype=np.int64))
