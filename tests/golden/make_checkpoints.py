"""Write tests/golden/checkpoints/: tiny checkpoints, and the logits that transformers gives.

Every parameter is random, biases and norms too, and settings are far from their defaults, so that
each of them shows in the logits. Needs torch, transformers and accelerate (``make test-oracle``
installs them): python -m tests.golden.make_checkpoints
"""

# pyright: reportMissingImports=false

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import tokenizers

HERE = Path(__file__).with_name("checkpoints")
LENGTH = 7
ENDS = {"bos_token_id": 1, "eos_token_id": 2}


def rope(theta: float, **more: float) -> dict[str, Any]:
    """The settings of a rotation."""
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta, **more}}


_SIZES = ENDS | {"vocab_size": 41, "hidden_size": 32, "num_hidden_layers": 2}
_SIZES |= {"num_attention_heads": 4, "intermediate_size": 40, "max_position_embeddings": 16}
_NEOX = _SIZES | {"layer_norm_eps": 0.03}
_GATED = _SIZES | {"num_key_value_heads": 2, "rms_norm_eps": 0.02}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": (
        "GPT2",
        ENDS
        | {"vocab_size": 41, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 40}
        | {"n_positions": 16, "layer_norm_epsilon": 0.03},
    ),
    "gpt_neox": ("GPTNeoX", _NEOX | rope(30.0, partial_rotary_factor=0.25)),
    "gpt_neox_serial": (
        "GPTNeoX",
        _NEOX
        | rope(50.0, partial_rotary_factor=0.5)
        | {"use_parallel_residual": False, "attention_bias": False, "hidden_act": "gelu_new"},
    ),
    "llama": (
        "Llama",
        _GATED
        | rope(40.0)
        | {"vocab_size": 300, "tie_word_embeddings": True, "max_position_embeddings": 64},
    ),
    "llama_biased": (
        "Llama",
        _GATED | rope(20.0) | {"head_dim": 10, "attention_bias": True, "mlp_bias": True},
    ),
    "qwen2": ("Qwen2", _GATED | rope(60.0)),
}
"""By name: the class in transformers, and the settings."""

SHARDED = {"gpt_neox": "20KB"}
HALF = ("llama_biased",)
WITH_TOKENIZER = ("llama",)
GGUF_CASES = {"gguf_llama": ("llama", {}), "gguf_qwen2": ("qwen2", {"vocab_size": 300})}
"""By name: the case that is written as a GGUF file, and what is changed in it."""

TEXTS = ["the cat sat on the mat", "the rat sat on the cat and the mat", "a hat, 12 cats: 345 mats"]
TEMPLATE = (
    "{% for message in messages %}\n"
    "{{ '<start>' + message['role'] + '\\n' + message['content'] + '<end>' + '\\n' }}\n"
    "{% endfor %}\n"
    "{% if add_generation_prompt %}{{ '<start>assistant\\n' }}{% endif %}"
)


def model_of(kind: str, settings: dict[str, Any], *, seed: int) -> Any:
    """A model of the class and settings, with random parameters."""
    import torch
    import transformers

    config = getattr(transformers, f"{kind}Config")(**settings)
    head = "LMHead" if kind == "GPT2" else "ForCausalLM"
    model = getattr(transformers, f"{kind}{head}{'Model' if kind == 'GPT2' else ''}")(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            norm = ("ln_" in path or "norm" in path) and path.endswith("weight")
            parameter.copy_(1 + 0.3 * noise if norm else 0.3 * noise)
    return model.eval()


def golden_model(name: str) -> Any:
    """The model of a case, as it is saved."""
    import torch

    model = model_of(*CASES[name], seed=sorted(CASES).index(name))
    return model.to(torch.bfloat16) if name in HALF else model


def logits_of(model: Any, tokens: np.ndarray) -> np.ndarray:
    """Logits ``[B, T, V]``."""
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(tokens).long()).logits.float().numpy()


def tokens_of(num_tokens: int) -> np.ndarray:
    """Two rows of ids."""
    return np.random.default_rng(0).integers(0, num_tokens, (2, LENGTH)).astype(np.int32)


def tokenizer_of(num_tokens: int) -> tokenizers.Tokenizer:
    """Byte-level pairs of ``TEXTS`` with digits apart, and three special tokens first."""
    pre = tokenizers.pre_tokenizers
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = pre.Sequence(
        [pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=num_tokens,
        special_tokens=["<unk>", "<start>", "<end>"],
        initial_alphabet=pre.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 2, trainer)
    return tokenizer


def write_gguf(path: Path, model: Any, tokenizer: tokenizers.Tokenizer) -> None:
    """A Llama or Qwen2 as llama.cpp's own converter writes it, in four types of numbers."""
    config = model.config
    writer = gguf.GGUFWriter(path, config.model_type)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if config.model_type == "llama":
        writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    tokens += [f"[PAD{index}]" for index in range(len(tokens), config.vocab_size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [3, 3, 3] + [1] * (len(vocabulary) - 3) + [5] * (len(tokens) - len(vocabulary))
    )
    writer.add_token_merges([" ".join(pair) for pair in merges_of(tokenizer)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    for name, kind, array in gguf_tensors(model):
        quantised = gguf.quantize(array, kind)
        writer.add_tensor(name, quantised, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def merges_of(tokenizer: tokenizers.Tokenizer) -> list[tuple[str, str]]:
    """The pairs in the order in which they are joined."""
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def gguf_tensors(model: Any) -> Iterator[tuple[str, Any, np.ndarray]]:
    """Name, type and numbers; llama.cpp rotates neighbours in a Llama, so q and k are permuted."""
    kinds = gguf.GGMLQuantizationType
    names = {
        "self_attn.q_proj": ("attn_q", kinds.Q8_0),
        "self_attn.k_proj": ("attn_k", kinds.F32),
        "self_attn.v_proj": ("attn_v", kinds.F16),
        "self_attn.o_proj": ("attn_output", kinds.Q4_1),
        "mlp.gate_proj": ("ffn_gate", kinds.Q8_0),
        "mlp.up_proj": ("ffn_up", kinds.Q8_0),
        "mlp.down_proj": ("ffn_down", kinds.F32),  # rows of 40, which no block divides
        "input_layernorm": ("attn_norm", kinds.F32),
        "post_attention_layernorm": ("ffn_norm", kinds.F32),
    }
    config = model.config
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    permuted = heads if config.model_type == "llama" else {}
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    yield "token_embd.weight", kinds.Q8_0, state["model.embed_tokens.weight"]
    yield "output_norm.weight", kinds.F32, state["model.norm.weight"]
    if not config.tie_word_embeddings:
        yield "output.weight", kinds.Q8_0, state["lm_head.weight"]
    for layer in range(config.num_hidden_layers):
        for name, (theirs, kind) in names.items():
            array = state[f"model.layers.{layer}.{name}.weight"]
            if theirs in permuted:
                pairs = array.reshape(permuted[theirs], 2, -1, array.shape[1])
                array = np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(array.shape))
            yield f"blk.{layer}.{theirs}.weight", kind, array
            bias = state.get(f"model.layers.{layer}.{name}.bias")
            if bias is not None:
                yield f"blk.{layer}.{theirs}.bias", kinds.F32, bias


def main() -> None:
    """Write them all."""
    import torch
    import transformers

    shutil.rmtree(HERE, ignore_errors=True)
    for name, (_, settings) in CASES.items():
        model, directory = golden_model(name), HERE / name
        model.save_pretrained(directory, max_shard_size=SHARDED.get(name, "1GB"))
        (directory / "generation_config.json").unlink()
        # Read anew, since a model that is converted to half precision rounds its rotation, too.
        model = type(model).from_pretrained(directory, dtype=torch.float32)
        save_logits(directory, model, settings["vocab_size"])
        if name in WITH_TOKENIZER:
            fast = transformers.PreTrainedTokenizerFast(
                tokenizer_object=tokenizer_of(280), bos_token="<start>", eos_token="<end>"
            )
            fast.chat_template = TEMPLATE
            fast.save_pretrained(directory)
        print(name, flush=True)
    for name, (case, changes) in GGUF_CASES.items():
        kind, settings = CASES[case]
        model, path = model_of(kind, settings | changes, seed=7), HERE / name / "model.gguf"
        path.parent.mkdir()
        write_gguf(path, model, tokenizer_of(280))
        save_logits(path.parent, read_gguf(path), 300)
        print(name, flush=True)


def save_logits(directory: Path, model: Any, num_tokens: int) -> None:
    """What the model gives for two rows of ids."""
    tokens = tokens_of(num_tokens)
    np.savez(directory / "logits.npz", tokens=tokens, logits=logits_of(model, tokens))


def read_gguf(path: Path) -> Any:
    """The model that transformers reads from the file."""
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name)


if __name__ == "__main__":
    main()
