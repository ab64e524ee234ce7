"""GGUF files, as llama.cpp reads them: settings, tokenizer and quantised tensors in one file.

The layout (little-endian): magic, version, number of tensors, number of settings; the settings,
each a name, a type and a value; of each tensor a name, a shape, a type and an offset; then the
tensors, aligned. Everything is read through ``_Cursor``, which looks only at bytes that are there:
a length that a file claims is compared with what is left of it before it is used.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import gguf
import numpy as np

from simulations.language_model.formats.fields import Fields
from simulations.language_model.formats.names import (
    GGUF_LLAMA,
    GGUF_QWEN2,
    StoredTensor,
    TensorNames,
    assemble,
)
from simulations.language_model.formats.subwords import build_tokenizer
from simulations.language_model.text.chat import CheckpointTokenizer
from simulations.language_model.transformer import Transformer, TransformerConfig

ARCHITECTURES: dict[str, TensorNames] = {"llama": GGUF_LLAMA, "qwen2": GGUF_QWEN2}
"""By ``general.architecture``."""

_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9
_KNOWN = {  # settings of an architecture that are read, or that say nothing about its arithmetic
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "vocab_size",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
}


@dataclass(frozen=True)
class GgufContents:
    """What a GGUF file holds.

    Attributes:
        settings: by name.
        tensors: by name, dequantised to float32 when they are read.
    """

    settings: Fields
    tensors: dict[str, StoredTensor]


def load_checkpoint(
    path: Path, *, dtype: Literal["float32", "bfloat16"] = "float32"
) -> tuple[Transformer, CheckpointTokenizer]:
    """Model and tokenizer of a GGUF file of the architecture llama or qwen2.

    Args:
        path: of the file.
        dtype: of parameters and activations.

    Raises:
        ValueError: a file that is damaged; a setting, tensor, quantisation or kind of tokenizer
            that is missing, unknown or not implemented, which it names.
    """
    contents = read(path)
    config = config_of(contents, dtype)
    names = ARCHITECTURES[contents.settings.values["general.architecture"]]
    tokenizer = build_tokenizer(contents.settings, config.vocabulary)
    return assemble(config, names, contents.tensors, source=str(path)), tokenizer


def read(path: Path) -> GgufContents:
    """Settings and tensors; of the latter only where they are.

    Raises:
        ValueError: it is no GGUF file of version 2 or 3, or damaged.
    """
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ValueError(f"{path} is no GGUF file: it does not begin with GGUF")
    data = np.memmap(path, np.uint8, mode="r")
    cursor = _Cursor(data, str(path), position=4)
    version = cursor.number("I")
    if version not in (2, 3):
        raise ValueError(f"{path} is GGUF of version {version}: convert it to version 3")
    num_tensors, num_settings = cursor.number("Q"), cursor.number("Q")
    # 24 and 13 bytes: the shortest description of a tensor and of a setting.
    cursor.expect(num_tensors * 24 + num_settings * 13, "as many tensors and settings as it claims")
    settings: dict[str, Any] = {}
    for _ in range(num_settings):
        name = cursor.text()
        if name in settings:
            raise ValueError(f"{path} has the setting {name[:80]!r} twice")
        settings[name] = cursor.value(name)
    fields = Fields(str(path), settings)
    alignment = fields.integer("general.alignment", 32)
    described = [cursor.tensor() for _ in range(num_tensors)]
    start = -(-cursor.position // alignment) * alignment
    tensors: dict[str, StoredTensor] = {}
    for name, shape, kind, offset in described:
        if name in tensors:
            raise ValueError(f"{path} has the tensor {name[:80]!r} twice")
        tensors[name] = _stored(data, str(path), name, shape, kind, start + offset)
    return GgufContents(fields, tensors)


def _stored(
    data: np.ndarray, source: str, name: str, shape: tuple[int, ...], kind: int, start: int
) -> StoredTensor:
    """A tensor whose bytes are known to be in the file, and whose type can be dequantised."""
    known = {member.value: member for member in gguf.GGMLQuantizationType}
    if kind not in known:
        raise ValueError(f"{source}: {name[:80]!r} is of the unknown type {kind}: convert it anew")
    quantisation = known[kind]
    block, size = gguf.GGML_QUANT_SIZES[quantisation]
    if shape[-1] % block:
        raise ValueError(
            f"{source}: {name[:80]!r} has rows of {shape[-1]} numbers, and {quantisation.name} "
            f"has blocks of {block}: the file is damaged"
        )
    num_bytes = math.prod(shape) // block * size
    if start + num_bytes > data.size:
        raise ValueError(
            f"{source} is cut short: {name[:80]!r} ends at byte {start + num_bytes}, and the file "
            f"at {data.size}; get it again"
        )

    def dequantised() -> np.ndarray:
        rows = data[start : start + num_bytes].reshape(-1, shape[-1] // block * size)
        try:
            array = gguf.dequantize(rows, quantisation)
        except NotImplementedError as error:
            raise ValueError(
                f"{source}: {name[:80]!r} is of type {quantisation.name}, which the gguf package "
                "does not dequantise: convert it to F16, Q8_0 or Q4_K"
            ) from error
        return np.asarray(array, np.float32).reshape(shape)

    return StoredTensor(shape, dequantised)


def config_of(contents: GgufContents, dtype: Literal["float32", "bfloat16"]) -> TransformerConfig:
    """The model that the settings describe."""
    fields, tensors = contents.settings, contents.tensors
    names = {name: name for name in ARCHITECTURES}
    architecture = fields.choice("general.architecture", names, "")
    own = {n.removeprefix(f"{architecture}.") for n in fields.values if n.startswith(architecture)}
    if unknown := sorted(own - _KNOWN):
        raise ValueError(
            f"{fields.source} sets {', '.join(unknown)[:80]} of {architecture}, which is not "
            "implemented"
        )
    settings = Fields(fields.source, fields.values, prefix=f"{architecture}.")
    settings.require(**{"rope.scaling.type": "none"})
    width, heads = settings.integer("embedding_length"), settings.integer("attention.head_count")
    size = settings.integer("attention.key_length", max(width // heads, 1))
    settings.require(**{"attention.value_length": size})
    num_tokens = len(fields.texts("tokenizer.ggml.tokens"))
    settings.require(vocab_size=num_tokens)
    return TransformerConfig(
        fields.vocabulary(
            num_tokens,
            fields.get("tokenizer.ggml.eos_token_id"),
            fields.get("tokenizer.ggml.bos_token_id"),
        ),
        width=width,
        num_layers=settings.integer("block_count"),
        num_heads=heads,
        num_key_heads=settings.integer("attention.head_count_kv", heads),
        head_width=size,
        hidden_width=settings.integer("feed_forward_length"),
        norm="rms",
        # StoredTensor in 32 bits: the shortest decimal of those is what was meant.
        norm_epsilon=_decimal(settings.number("attention.layer_norm_rms_epsilon")),
        activation="silu",
        gated=True,
        attention_bias="blk.0.attn_q.bias" in tensors,
        output_bias="blk.0.attn_output.bias" in tensors,
        perceptron_bias="blk.0.ffn_down.bias" in tensors,
        tied_head="output.weight" not in tensors,
        rotary_fraction=settings.integer("rope.dimension_count", size) / size,
        rotary_base=_decimal(settings.number("rope.freq_base", 10_000.0)),
        context=settings.integer("context_length"),
        dtype=dtype,
    )


def _decimal(value: float) -> float:
    return float(str(np.float32(value)))


@dataclass
class _Cursor:
    """A place in the file, from which the next thing is read if the file is long enough."""

    data: np.ndarray
    source: str
    position: int

    def expect(self, num_bytes: int, what: str) -> None:
        """Refuse a file that has fewer bytes left."""
        left = self.data.size - self.position
        if num_bytes > left:
            raise ValueError(
                f"{self.source} is cut short or damaged: {left} bytes are left at byte "
                f"{self.position}, too few for {what}; get it again"
            )

    def number(self, kind: str) -> Any:
        return self.numbers(kind, 1)[0]

    def numbers(self, kind: str, count: int) -> tuple:
        size = struct.calcsize(f"<{kind}")
        self.expect(count * size, f"{count} numbers")
        found = struct.unpack_from(f"<{count}{kind}", cast(Any, self.data), self.position)
        self.position += count * size
        return found

    def text(self) -> str:
        length = self.number("Q")
        self.expect(length, f"a text of {length} bytes")
        found = self.data[self.position : self.position + length].tobytes()
        self.position += length
        try:
            return found.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{self.source} is damaged: the text before byte {self.position} is not UTF-8"
            ) from error

    def value(self, name: str) -> Any:
        """A setting of any type; arrays hold numbers or texts, not arrays."""
        kind = self.number("I")
        if kind != _ARRAY:
            return self._read_one(name, kind)
        kind, count = self.number("I"), self.number("Q")
        if kind == _STRING:
            self.expect(count * 8, f"{count} texts")
            return [self.text() for _ in range(count)]
        return list(self.numbers(self._kind(name, kind), count))

    def tensor(self) -> tuple[str, tuple[int, ...], int, int]:
        """Name, shape, type and offset; a shape is written with the innermost axis first."""
        name, rank = self.text(), self.number("I")
        if not 1 <= rank <= 4:
            raise ValueError(f"{self.source} is damaged: {name[:80]!r} has {rank} axes")
        shape = self.numbers("Q", rank)[::-1]
        if not all(shape):
            raise ValueError(f"{self.source} is damaged: {name[:80]!r} has the shape {list(shape)}")
        return name, shape, self.number("I"), self.number("Q")

    def _read_one(self, name: str, kind: int) -> Any:
        return self.text() if kind == _STRING else self.number(self._kind(name, kind))

    def _kind(self, name: str, kind: int) -> str:
        if kind not in _SCALARS:
            raise ValueError(
                f"{self.source} is damaged: the setting {name[:80]!r} has the unknown type {kind}"
            )
        return _SCALARS[kind]
