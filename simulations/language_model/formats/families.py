"""What the settings of each family mean: config.json to a :class:`TransformerConfig`, and back.

Where a setting is not given, the family's own default counts. What is set to something that is not
implemented is refused: a model that runs with another arithmetic gives plausible, wrong numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from simulations.language_model.architecture import TransformerConfig
from simulations.language_model.formats.fields import Fields
from simulations.language_model.formats.names import GPT2, GPT_NEOX, LLAMA, TensorNames
from simulations.language_model.text.tokenizers import Vocabulary

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}
_ACTIVATION_NAMES = {"silu": "silu", "gelu": "gelu", "gelu_tanh": "gelu_new"}


@dataclass(frozen=True)
class ModelFamily:
    """An architecture of the ``transformers`` library.

    Attributes:
        architecture: the name of its class there.
        names: of its tensors.
        read: the model that settings describe.
        write: the settings that describe a model, as far as the family has them.
    """

    architecture: str
    names: TensorNames
    read: Callable[[Fields], TransformerConfig]
    write: Callable[[TransformerConfig], dict[str, Any]]


def _read_gpt2(fields: Fields) -> TransformerConfig:
    fields.require(
        scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False
    )
    width = fields.integer("n_embd")
    return TransformerConfig(
        _vocabulary(fields),
        width=width,
        num_layers=fields.integer("n_layer"),
        num_heads=fields.integer("n_head"),
        hidden_width=fields.integer("n_inner", 4 * width),
        norm="layer",
        norm_epsilon=fields.number("layer_norm_epsilon", 1e-5),
        activation=fields.choice("activation_function", ACTIVATIONS, "gelu_new"),
        attention_bias=True,
        output_bias=True,
        perceptron_bias=True,
        tied_head=fields.flag("tie_word_embeddings", True),
        rotary_fraction=0.0,
        context=fields.integer("n_positions", 1024),
    )


def _write_gpt2(config: TransformerConfig) -> dict[str, Any]:
    return {
        "n_embd": config.width,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_inner": config.hidden_size,
        "layer_norm_epsilon": config.norm_epsilon,
        "activation_function": _ACTIVATION_NAMES[config.activation],
        "n_positions": config.context,
    }


def _read_gpt_neox(fields: Fields) -> TransformerConfig:
    base, fraction = _rotation(fields, fraction=0.25)
    biased = fields.flag("attention_bias", True)
    return TransformerConfig(
        _vocabulary(fields),
        width=fields.integer("hidden_size"),
        num_layers=fields.integer("num_hidden_layers"),
        num_heads=fields.integer("num_attention_heads"),
        hidden_width=fields.integer("intermediate_size"),
        norm="layer",
        norm_epsilon=fields.number("layer_norm_eps", 1e-5),
        activation=fields.choice("hidden_act", ACTIVATIONS, "gelu"),
        attention_bias=biased,
        output_bias=biased,
        perceptron_bias=True,
        parallel=fields.flag("use_parallel_residual", True),
        tied_head=fields.flag("tie_word_embeddings", False),
        rotary_fraction=fraction,
        rotary_base=base,
        context=fields.integer("max_position_embeddings", 2048),
    )


def _write_gpt_neox(config: TransformerConfig) -> dict[str, Any]:
    return _write_common(config) | {
        "layer_norm_eps": config.norm_epsilon,
        "attention_bias": config.attention_bias,
        "use_parallel_residual": config.parallel,
        # Twice, since the older versions of transformers read the flat names alone.
        "rotary_pct": config.rotary_fraction,
        "rotary_emb_base": config.rotary_base,
        "rope_parameters": _write_rotation(config)
        | {"partial_rotary_factor": config.rotary_fraction},
    }


def _read_llama(fields: Fields) -> TransformerConfig:
    bias = fields.flag("attention_bias", False)
    return _read_gated(fields, bias, output_bias=bias, mlp_bias=fields.flag("mlp_bias", False))


def _read_qwen2(fields: Fields) -> TransformerConfig:
    fields.require(use_sliding_window=False)
    kinds = fields.get("layer_types") or []
    if not isinstance(kinds, list) or any(kind != "full_attention" for kind in kinds):
        raise fields.wrong("layer_types", "'full_attention' for each layer")
    return _read_gated(fields, attention_bias=True, output_bias=False, mlp_bias=False)


def _read_gated(
    fields: Fields, attention_bias: bool, output_bias: bool, mlp_bias: bool
) -> TransformerConfig:
    base, fraction = _rotation(fields, fraction=1.0)
    width, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    return TransformerConfig(
        _vocabulary(fields),
        width=width,
        num_layers=fields.integer("num_hidden_layers"),
        num_heads=heads,
        num_key_heads=fields.integer("num_key_value_heads", heads),
        head_width=fields.integer("head_dim", width // heads or 1),
        hidden_width=fields.integer("intermediate_size"),
        norm="rms",
        norm_epsilon=fields.number("rms_norm_eps", 1e-6),
        activation=fields.choice("hidden_act", ACTIVATIONS, "silu"),
        gated=True,
        attention_bias=attention_bias,
        output_bias=output_bias,
        perceptron_bias=mlp_bias,
        tied_head=fields.flag("tie_word_embeddings", False),
        rotary_fraction=fraction,
        rotary_base=base,
        context=fields.integer("max_position_embeddings", 2048),
    )


def _write_gated(config: TransformerConfig) -> dict[str, Any]:
    return _write_common(config) | {
        "num_key_value_heads": config.key_heads,
        "head_dim": config.head_size,
        "rms_norm_eps": config.norm_epsilon,
        # Twice, since the older versions of transformers read the flat name alone.
        "rope_theta": config.rotary_base,
        "rope_parameters": _write_rotation(config),
    }


def _write_llama(config: TransformerConfig) -> dict[str, Any]:
    return _write_gated(config) | {
        "attention_bias": config.attention_bias,
        "mlp_bias": config.perceptron_bias,
    }


FAMILIES: Mapping[str, ModelFamily] = {
    "gpt2": ModelFamily("GPT2LMHeadModel", GPT2, _read_gpt2, _write_gpt2),
    "gpt_neox": ModelFamily("GPTNeoXForCausalLM", GPT_NEOX, _read_gpt_neox, _write_gpt_neox),
    "llama": ModelFamily("LlamaForCausalLM", LLAMA, _read_llama, _write_llama),
    "qwen2": ModelFamily("Qwen2ForCausalLM", LLAMA, _read_qwen2, _write_gated),
}
"""By ``model_type``."""


def read_settings(fields: Fields) -> tuple[ModelFamily, TransformerConfig]:
    """The family and the model, in float32, that the settings of a config.json describe.

    Raises:
        ValueError: a setting that is missing, malformed or not implemented, which it names.
    """
    family = fields.choice("model_type", FAMILIES, "")
    architectures = fields.get("architectures")
    if architectures not in (None, [], [family.architecture]):
        raise fields.wrong("architectures", f"{[family.architecture]}, a language model")
    fields.require(quantization_config=None, quantization=None)
    return family, family.read(fields)


def write_settings(config: TransformerConfig) -> tuple[ModelFamily, dict[str, Any]]:
    """A family that has such a model, and the settings that describe the model there.

    Raises:
        ValueError: there is none; the nearest one is named, with what it lacks.
    """
    wanted = _explicit(config)
    nearest = None
    for name, family in FAMILIES.items():
        settings = {
            "architectures": [family.architecture],
            "model_type": name,
            "dtype": config.dtype,
            "vocab_size": config.vocabulary.num_inputs,
            "bos_token_id": config.vocabulary.bos_id,
            "eos_token_id": config.vocabulary.eos_id,
            "tie_word_embeddings": config.tied_head,
            **family.write(config),
        }
        described = _explicit(replace(read_settings(Fields(name, settings))[1], dtype=config.dtype))
        if described == wanted:
            return family, settings
        lacking = [f.name for f in fields(wanted) if _differ(f.name, wanted, described)]
        if nearest is None or len(lacking) < len(nearest[1]):
            nearest = name, lacking
    assert nearest is not None
    name, lacking = nearest
    differences = ", ".join(f"{field} {getattr(wanted, field)!r:.80}" for field in lacking)
    raise ValueError(f"no family has such a model: the nearest, {name}, has no {differences}")


def _differ(name: str, a: TransformerConfig, b: TransformerConfig) -> bool:
    return getattr(a, name) != getattr(b, name)


def _explicit(config: TransformerConfig) -> TransformerConfig:
    """With the sizes that follow from others written out."""
    return replace(
        config,
        num_key_heads=config.key_heads,
        head_width=config.head_size,
        hidden_width=config.hidden_size,
        rotary_base=config.rotary_base if config.rotated else 10_000.0,  # which nothing reads
        rematerialise=False,
    )


def _vocabulary(fields: Fields) -> Vocabulary:
    tokens = fields.integer("vocab_size", at_least=2)
    return fields.vocabulary(tokens, fields.get("eos_token_id"), fields.get("bos_token_id"))


def _rotation(fields: Fields, fraction: float) -> tuple[float, float]:
    """Base and fraction, from ``rope_parameters`` or, as older versions wrote, from flat names."""
    for name in ("rope_parameters", "rope_scaling"):
        inner = fields.inner(name)
        inner.require(rope_type="default", type="default")
    inner = fields.inner("rope_parameters")
    base = fields.number("rope_theta", fields.number("rotary_emb_base", 10_000.0))
    whole = fraction == 1  # a family that rotates whole heads has no setting for it
    if whole:
        for settings in (fields, inner):
            settings.require(partial_rotary_factor=1.0, rotary_pct=1.0)
    else:
        fraction = fields.number("partial_rotary_factor", fields.number("rotary_pct", fraction))
    return inner.number("rope_theta", base), inner.number("partial_rotary_factor", fraction)


def _write_common(config: TransformerConfig) -> dict[str, Any]:
    return {
        "hidden_size": config.width,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.hidden_size,
        "hidden_act": _ACTIVATION_NAMES[config.activation],
        "max_position_embeddings": config.context,
    }


def _write_rotation(config: TransformerConfig) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": config.rotary_base}
