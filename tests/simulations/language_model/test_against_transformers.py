"""Against the transformers library on PyTorch, which ``make test-oracle`` installs.

What holds for the tiny checkpoints under tests/golden holds for others, for SmolLM2 and for what is
written here; and the golden files are what their program makes.
"""

# pyright: reportMissingImports=false

import importlib.util
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from simulations.language_model import real_model
from simulations.language_model.formats import hugging_face, load_checkpoint, save_checkpoint
from simulations.language_model.formats.subwords import CUTS
from simulations.language_model.text.chat import CheckpointTokenizer
from simulations.language_model.text.tokenizers import Vocabulary
from simulations.language_model.transformer import Transformer
from tests.golden import make_checkpoints
from tests.simulations.language_model.passes import (
    conversation_differences,
    conversations,
    differences,
    logits_by_pass,
)

# Imported by the tests alone: it takes seconds, which collecting the others need not spend.
MISSING = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {MISSING}: make test-oracle installs them"),
]

TINY, REAL = 1e-4, 5e-4
_GATED = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 43}
_GATED |= {"intermediate_size": 44, "max_position_embeddings": 32, **make_checkpoints.ENDS}
_NEOX = {k: v for k, v in _GATED.items() if k != "num_key_value_heads"}
VARIANTS = {
    "gpt2, untied": (
        "GPT2",
        make_checkpoints.CASES["gpt2"][1] | {"tie_word_embeddings": False, "n_inner": None},
    ),
    "gpt2, exact gelu": (
        "GPT2",
        make_checkpoints.CASES["gpt2"][1] | {"activation_function": "gelu"},
    ),
    "gpt_neox, all rotated": (
        "GPTNeoX",
        _NEOX | make_checkpoints.rope(1e4, partial_rotary_factor=1.0),
    ),
    "gpt_neox, serial, tied": (
        "GPTNeoX",
        _NEOX
        | make_checkpoints.rope(1e4, partial_rotary_factor=0.7)
        | {"use_parallel_residual": False, "tie_word_embeddings": True},
    ),
    "llama, one key head": ("Llama", _GATED | {"num_key_value_heads": 1, "attention_bias": True}),
    "llama, a key head each": ("Llama", _GATED | {"mlp_bias": True, "tie_word_embeddings": True}),
    "llama, narrow heads": ("Llama", _GATED | {"num_key_value_heads": 2, "head_dim": 4}),
    "qwen2, tied": ("Qwen2", _GATED | {"num_key_value_heads": 2, "tie_word_embeddings": True}),
}


def tokens_of(num_tokens: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, num_tokens, (3, 11)).astype(np.int32)


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_equal_at_every_position(variant: str, tmp_path: Path) -> None:
    import transformers

    kind, settings = VARIANTS[variant]
    theirs = make_checkpoints.model_of(kind, settings, seed=len(variant))
    theirs.save_pretrained(tmp_path / "theirs")
    tokens = tokens_of(settings["vocab_size"])
    expected = make_checkpoints.logits_of(theirs, tokens)
    ours = hugging_face.load_model(tmp_path / "theirs")
    found = differences(ours, tokens, expected)
    print(variant, found, np.ptp(expected))
    assert max(found.values()) < TINY

    # And what is written here, transformers reads with the same numbers.
    save_checkpoint(tmp_path / "ours", ours, tokenizer_of(ours.config.vocabulary))
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert type(again) is type(theirs)
    np.testing.assert_array_equal(make_checkpoints.logits_of(again, tokens), expected)


def tokenizer_of(vocabulary: Vocabulary) -> CheckpointTokenizer:
    """One word per id."""
    words = {f"w{index}": index for index in range(vocabulary.num_tokens)}
    model = tokenizers.models.WordLevel(words, unk_token="w0")
    return CheckpointTokenizer(tokenizers.Tokenizer(model), vocabulary)


@pytest.mark.parametrize("case", make_checkpoints.CASES)
def test_golden_checkpoints_are_what_their_program_makes(case: str) -> None:
    import torch

    directory = make_checkpoints.HERE / case
    made = make_checkpoints.golden_model(case)
    read = type(made).from_pretrained(directory, dtype=torch.float32)
    for name, parameter in made.named_parameters():
        assert torch.equal(read.get_parameter(name), parameter.float()), name
    with np.load(directory / "logits.npz") as file:
        found = make_checkpoints.logits_of(read, file["tokens"])
        np.testing.assert_allclose(found, file["logits"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", make_checkpoints.GGUF_CASES)
def test_golden_gguf_files_have_the_logits_that_transformers_gives(case: str) -> None:
    read = make_checkpoints.read_gguf(make_checkpoints.HERE / case / "model.gguf")
    with np.load(make_checkpoints.HERE / case / "logits.npz") as file:
        found = make_checkpoints.logits_of(read, file["tokens"])
        np.testing.assert_allclose(found, file["logits"], rtol=0, atol=1e-5)


def test_texts_are_cut_as_transformers_cuts_them() -> None:
    """What the names in GGUF files mean, on texts with all that the patterns distinguish."""
    from transformers.convert_slow_tokenizer import TikTokenConverter
    from transformers.models.qwen2 import tokenization_qwen2

    default = inspect.signature(TikTokenConverter.__init__).parameters["pattern"].default
    patterns = {"qwen2": tokenization_qwen2.PRETOKENIZE_REGEX, "llama-bpe": default}
    text = "It's 12345 o'clock,  we'LL see\n\n  2. naïve_é x\t\r\n¡¿!\n ...   end  "
    for name, pattern in patterns.items():
        split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(pattern), behavior="isolated")
        pieces = [piece for piece, _ in split.pre_tokenize_str(text)]
        byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        expected = [byte_level.pre_tokenize_str(piece)[0][0] for piece in pieces]
        found = [piece for piece, _ in CUTS[name].pre_tokenize_str(text)]
        assert found == expected
        assert len(found) > 20


def test_texts_and_chats_have_the_tokens_that_transformers_gives(tmp_path: Path) -> None:
    """Read from a directory of theirs, and written to one of ours."""
    import transformers

    model, tokenizer = load_checkpoint(make_checkpoints.HERE / "llama")
    save_checkpoint(tmp_path / "ours", model, tokenizer)
    chat = [{"role": "user", "content": "a cat\n\n2. hat"}, {"role": "assistant", "content": "é"}]
    for directory in (make_checkpoints.HERE / "llama", tmp_path / "ours"):
        theirs = transformers.AutoTokenizer.from_pretrained(directory)
        for text in (*make_checkpoints.TEXTS, "\n\n12. <end>é"):
            ids = theirs(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.encode(text).tolist() == ids
        written = theirs.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        assert tokenizer.chat(chat) == written
        assert (theirs.bos_token_id, theirs.eos_token_id) == (1, 2)


def test_half_precision_is_as_far_from_single_as_theirs(
    tmp_path: Path, implicit_promotion: None
) -> None:
    """bfloat16 has 8 bits: both differ from the exact logits, and by as much."""
    import torch

    kind, settings = VARIANTS["llama, narrow heads"]
    theirs = make_checkpoints.model_of(kind, settings, seed=3)
    theirs.save_pretrained(tmp_path)
    tokens = tokens_of(settings["vocab_size"])
    exact = make_checkpoints.logits_of(theirs, tokens)
    half = type(theirs).from_pretrained(tmp_path, dtype=torch.bfloat16)
    theirs_off = np.abs(make_checkpoints.logits_of(half, tokens) - exact)
    ours = hugging_face.load_model(tmp_path, dtype="bfloat16")
    ours_off = np.abs(logits_by_pass(ours, tokens)["whole"] - exact)
    print("bfloat16, ours and theirs", ours_off.mean(), theirs_off.mean())
    assert 0.2 * theirs_off.mean() < ours_off.mean() < 1.2 * theirs_off.mean()


@pytest.fixture(scope="module")
def real() -> tuple[Transformer, CheckpointTokenizer, Any]:
    """SmolLM2, ours and theirs, from the same file; ``make test-oracle`` installs it."""
    return *real_model.smollm2(), make_checkpoints.read_gguf(real_model.gguf_file())


def test_the_real_model_has_the_logits_that_transformers_gives(
    real: tuple[Transformer, CheckpointTokenizer, Any],
) -> None:
    """Prompts of several lengths, together here and alone there, with their answers behind them."""
    model, tokenizer, theirs = real
    prompts, answers = conversations(tokenizer)
    alone = [
        np.concatenate([prompt[prompt < tokenizer.vocabulary.pad_id], answer])
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    expected = [make_checkpoints.logits_of(theirs, tokens[None])[0] for tokens in alone]
    found = conversation_differences(model, prompts, answers, expected)
    print("SmolLM2", found, max(np.ptp(logits) for logits in expected))
    assert max(found.values()) < REAL
    # Each token of a greedy answer is the one that transformers holds most probable.
    for answer, logits in zip(answers, expected, strict=True):
        np.testing.assert_array_equal(logits[-answer.size - 1 : -1].argmax(axis=-1), answer)
