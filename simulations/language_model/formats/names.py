"""Where files keep each tensor of a transformer: one table per family and kind of file.

A module of the model is one or several modules of the file, joined along their outputs: queries,
keys and values of Llama are three there and one here. What a file holds differs from what the model
holds in three ways only, and all three can be undone: the name; whether a weight is ``[out, in]``
(as PyTorch has it) or ``[in, out]`` (as here, and in GPT-2); and the order of the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import jax.numpy as jnp
import numpy as np
from flax import nnx

from simulations.language_model.transformer import Transformer, TransformerConfig

Path = tuple[str, ...]
"""Of a parameter in the model, such as ``("layers", "attention", "project", "kernel")``."""

Order = Callable[[TransformerConfig], np.ndarray]
"""Which output of the file each output of the model is."""


@dataclass(frozen=True)
class TensorNames:
    """Where a kind of file keeps each module.

    Attributes:
        modules: its names by the module's path here; ``{}`` is the number of the layer.
        prefix: of all names but the head's; some files leave it out.
        inputs_first: whether weights of linear layers are ``[in, out]``.
        orders: of the outputs, by the module's name in the file, where it is not the model's.
        ignored: ends of the names of tensors that are no parameters: masks and frequencies that
            old versions saved.
    """

    modules: Mapping[str, tuple[str, ...]]
    prefix: str = ""
    inputs_first: bool = False
    orders: Mapping[str, Order] | None = None
    ignored: tuple[str, ...] = ()


def _interleaved(config: TransformerConfig) -> np.ndarray:
    """The file has query, key and value of the first head, then of the second, and so on."""
    shape = (config.num_heads, 3, config.head_size)
    return np.arange(np.prod(shape)).reshape(shape).swapaxes(0, 1).ravel()


def _adjacent_pairs(heads: Callable[[TransformerConfig], int]) -> Order:
    """The file has the two coordinates that are rotated together side by side."""

    def order(config: TransformerConfig) -> np.ndarray:
        shape = (heads(config), config.head_size // 2, 2)
        return np.arange(np.prod(shape)).reshape(shape).swapaxes(1, 2).ravel()

    return order


GPT2 = TensorNames(
    {
        "embedding": ("wte",),
        "positions": ("wpe",),
        "layers.attention_norm": ("h.{}.ln_1",),
        "layers.attention.project": ("h.{}.attn.c_attn",),
        "layers.attention.output": ("h.{}.attn.c_proj",),
        "layers.perceptron_norm": ("h.{}.ln_2",),
        "layers.perceptron.expand": ("h.{}.mlp.c_fc",),
        "layers.perceptron.contract": ("h.{}.mlp.c_proj",),
        "norm": ("ln_f",),
        "head": ("lm_head",),
    },
    prefix="transformer.",
    inputs_first=True,
    ignored=(".attn.bias", ".attn.masked_bias"),
)
GPT_NEOX = TensorNames(
    {
        "embedding": ("embed_in",),
        "layers.attention_norm": ("layers.{}.input_layernorm",),
        "layers.attention.project": ("layers.{}.attention.query_key_value",),
        "layers.attention.output": ("layers.{}.attention.dense",),
        "layers.perceptron_norm": ("layers.{}.post_attention_layernorm",),
        "layers.perceptron.expand": ("layers.{}.mlp.dense_h_to_4h",),
        "layers.perceptron.contract": ("layers.{}.mlp.dense_4h_to_h",),
        "norm": ("final_layer_norm",),
        "head": ("embed_out",),
    },
    prefix="gpt_neox.",
    orders={"layers.{}.attention.query_key_value": _interleaved},
    ignored=(".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"),
)
LLAMA = TensorNames(
    {
        "embedding": ("embed_tokens",),
        "layers.attention_norm": ("layers.{}.input_layernorm",),
        "layers.attention.project": (
            "layers.{}.self_attn.q_proj",
            "layers.{}.self_attn.k_proj",
            "layers.{}.self_attn.v_proj",
        ),
        "layers.attention.output": ("layers.{}.self_attn.o_proj",),
        "layers.perceptron_norm": ("layers.{}.post_attention_layernorm",),
        "layers.perceptron.expand": ("layers.{}.mlp.gate_proj", "layers.{}.mlp.up_proj"),
        "layers.perceptron.contract": ("layers.{}.mlp.down_proj",),
        "norm": ("norm",),
        "head": ("lm_head",),
    },
    prefix="model.",
    ignored=(".rotary_emb.inv_freq",),
)
_GGUF_MODULES = {
    "embedding": ("token_embd",),
    "layers.attention_norm": ("blk.{}.attn_norm",),
    "layers.attention.project": ("blk.{}.attn_q", "blk.{}.attn_k", "blk.{}.attn_v"),
    "layers.attention.output": ("blk.{}.attn_output",),
    "layers.perceptron_norm": ("blk.{}.ffn_norm",),
    "layers.perceptron.expand": ("blk.{}.ffn_gate", "blk.{}.ffn_up"),
    "layers.perceptron.contract": ("blk.{}.ffn_down",),
    "norm": ("output_norm",),
    "head": ("output",),
}
GGUF_QWEN2 = TensorNames(_GGUF_MODULES)
GGUF_LLAMA = TensorNames(
    _GGUF_MODULES,
    orders={
        "blk.{}.attn_q": _adjacent_pairs(lambda config: config.num_heads),
        "blk.{}.attn_k": _adjacent_pairs(lambda config: config.key_heads),
    },
)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a file, which is read when it is needed.

    Attributes:
        shape: of the tensor.
        read: the tensor itself, of any floating type.
    """

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Place:
    """Where a tensor of the file is in the model.

    Attributes:
        name: in the file.
        shape: in the file.
        parameter: of the model, to which it belongs.
        index: of its part of that parameter.
        transposed: whether inputs and outputs change places.
        order: makes the order of the outputs in the file, once their number is known to be right;
            None where it is the model's.
    """

    name: str
    shape: tuple[int, ...]
    parameter: Path
    index: tuple
    transposed: bool
    order: Callable[[], np.ndarray] | None

    def from_file(self, array: np.ndarray) -> np.ndarray:
        """The model's part, from the file's tensor."""
        array = array.T if self.transposed else array
        return array if self.order is None else array[..., self.order()]

    def to_file(self, part: np.ndarray) -> np.ndarray:
        """The file's tensor, from the model's part."""
        part = part if self.order is None else part[..., np.argsort(self.order())]
        return part.T if self.transposed else part


def places(
    config: TransformerConfig, names: TensorNames, *, prefix: bool = True
) -> Iterator[Place]:
    """Every tensor of a file that holds such a model, parameter by parameter.

    Args:
        config: of the model.
        names: of the family.
        prefix: whether the file writes the prefix.
    """
    heads, size = config.num_heads, config.head_size
    sizes = {  # of the parts that may be modules of their own in the file
        "layers.attention.project": (
            heads * size,
            config.key_heads * size,
            config.key_heads * size,
        ),
        "layers.perceptron.expand": (config.hidden_size,) * (2 if config.gated else 1),
    }
    for path, shape in parameter_shapes(config).items():
        module, leaf = ".".join(path[:-1]), path[-1]
        if module not in names.modules:
            raise ValueError(f"the family has no tensor for the model's {module}")
        parts = names.modules[module]
        outputs = sizes.get(module, (shape[-1],))
        outputs = outputs if len(parts) == len(outputs) else (sum(outputs),)
        edges = np.cumsum([0, *outputs]).tolist()
        start = names.prefix if prefix and module != "head" else ""
        ending = ".bias" if leaf == "bias" else ".weight"
        transposed = leaf == "kernel" and not names.inputs_first
        layers = range(shape[0]) if path[0] == "layers" else [None]
        for layer in layers:
            for part, first, last in zip(parts, edges[:-1], edges[1:], strict=True):
                order = (names.orders or {}).get(part)
                inner = (*shape[:-1], last - first)[layer is not None :]
                yield Place(
                    start + part.format(layer) + ending,
                    inner[::-1] if transposed else inner,
                    path,
                    (*([] if layer is None else [layer]), ..., slice(first, last)),
                    transposed,
                    None if order is None else partial(order, config),
                )


def parameter_shapes(config: TransformerConfig) -> dict[Path, tuple[int, ...]]:
    """The shape of every parameter of such a model; nothing is allocated."""
    flat = nnx.to_flat_state(nnx.state(_abstract(config)))
    return {tuple(map(str, path)): leaf.shape for path, leaf in flat}


def assemble(
    config: TransformerConfig,
    names: TensorNames,
    tensors: Mapping[str, StoredTensor],
    *,
    source: str,
) -> Transformer:
    """The model whose parameters are the ``tensors`` of a file, read one at a time.

    Args:
        config: of the model, in whose dtype the parameters will be.
        names: of the family.
        tensors: of the file by name.
        source: the file, for messages.

    Raises:
        ValueError: missing or unknown tensors, or wrong shapes; before anything is allocated.
    """
    if config.num_layers > len(tensors):
        raise ValueError(f"{source} has {len(tensors)} tensors for {config.num_layers} layers")
    table = _checked(config, names, tensors, source)
    for embedding, head in _repeated_head(config, names, tensors):
        if not np.array_equal(tensors[embedding].read(), tensors[head].read()):
            raise ValueError(
                f"{source}: {head} is not {embedding}, although the configuration ties them: set "
                "tie_word_embeddings to false"
            )
    model = _abstract(config)
    graph, state = nnx.split(model)
    filled = []
    for path, leaf in nnx.to_flat_state(state):
        array = np.empty(leaf.shape, jnp.dtype(config.dtype))
        for place in table[tuple(map(str, path))]:
            array[place.index] = place.from_file(tensors[place.name].read())
        filled.append((path, leaf.replace(jnp.asarray(array))))
    return nnx.merge(graph, nnx.from_flat_state(filled))


def disassemble(model: Transformer, names: TensorNames) -> dict[str, StoredTensor]:
    """The tensors of a file that holds ``model``, each made when it is read."""
    flat = nnx.to_flat_state(nnx.state(model))
    parameters = {tuple(map(str, path)): leaf[...] for path, leaf in flat}

    def stored(place: Place) -> StoredTensor:
        def read() -> np.ndarray:
            part = np.asarray(parameters[place.parameter])[place.index]
            return np.ascontiguousarray(place.to_file(part))

        return StoredTensor(place.shape, read)

    return {place.name: stored(place) for place in places(model.config, names)}


def _abstract(config: TransformerConfig) -> Transformer:
    return nnx.eval_shape(lambda: Transformer(config, rngs=nnx.Rngs(0)))


def _checked(
    config: TransformerConfig, names: TensorNames, tensors: Mapping[str, StoredTensor], source: str
) -> dict[Path, list[Place]]:
    """The places by parameter, once every tensor of the file is known to be as expected."""
    prefix = any(name.startswith(names.prefix) for name in tensors)
    table: dict[Path, list[Place]] = {}
    expected = {}
    for place in places(config, names, prefix=prefix):
        table.setdefault(place.parameter, []).append(place)
        expected[place.name] = place
    ignored = {name for name in tensors if name.endswith(names.ignored)} - expected.keys()
    ignored |= {head for _, head in _repeated_head(config, names, tensors)}
    if missing := expected.keys() - tensors.keys():
        raise ValueError(f"{source} lacks {_some(missing)}: the model needs it")
    if unknown := tensors.keys() - expected.keys() - ignored:
        raise ValueError(
            f"{source} holds {_some(unknown)}, which no model of this configuration has"
        )
    for name, place in expected.items():
        if tensors[name].shape != place.shape:
            raise ValueError(
                f"{source}: {name} has shape {list(tensors[name].shape)}, and the configuration "
                f"says {list(place.shape)}"
            )
    return table


def _repeated_head(
    config: TransformerConfig, names: TensorNames, tensors: Mapping[str, StoredTensor]
) -> list[tuple[str, str]]:
    """Names of embedding and head, if they are tied and the file has the numbers twice."""
    if not config.tied_head:
        return []
    (embedding,), (head,) = names.modules["embedding"], names.modules["head"]
    pair = [f"{embedding}.weight", f"{head}.weight"]
    found = {name.removeprefix(names.prefix): name for name in tensors}
    return [(found[pair[0]], found[pair[1]])] if found.keys() >= set(pair) else []


def _some(names: set[str]) -> str:
    """The first of ``names``, and how many more there are."""
    first, *others = sorted(names)
    return f"{first[:80]!r}" + (f" and {len(others)} more" if others else "")
