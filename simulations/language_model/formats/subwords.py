"""A tokenizer from the settings of a GGUF file.

The file has the tokens and the merges of byte-level pairs, and only the *name* of how a text is cut
into words before the pairs are joined; what the names mean is in llama.cpp and, below, as far as it
is needed here. A name that is not in this table is refused: another cut gives other tokens, and a
model that reads them still answers, only worse.
"""

from __future__ import annotations

import tokenizers
from tokenizers import Regex
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import NFC
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split

from simulations.language_model.formats.fields import Fields
from simulations.language_model.text.chat import CheckpointTokenizer
from simulations.language_model.text.tokenizers import Vocabulary

_CONTROL, _USER_DEFINED = 3, 4  # types of tokens whose text is that token wherever it stands


def _words(pattern: str) -> Sequence:
    """Cut by a pattern, then written as bytes."""
    cut = Split(Regex(pattern), behavior="isolated")
    return Sequence([cut, ByteLevel(add_prefix_space=False, use_regex=False)])


_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CUTS = {
    "gpt-2": ByteLevel(add_prefix_space=False),
    "smollm": Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]),
    "qwen2": _words(_QWEN2),
    "llama-bpe": _words(_QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")),
}
"""By ``tokenizer.ggml.pre``."""


def build_tokenizer(settings: Fields, vocabulary: Vocabulary) -> CheckpointTokenizer:
    """The tokenizer that the settings of a GGUF file describe.

    Args:
        settings: of the file.
        vocabulary: of its model.

    Raises:
        ValueError: another kind of tokenizer than byte-level pairs, a cut into words that is not
            known, or tokens and merges that do not fit together.
    """
    fields = Fields(settings.source, settings.values, prefix="tokenizer.ggml.")
    fields.choice("model", {"gpt2": None}, "")
    name = fields.choice("pre", {name: name for name in CUTS}, "")
    tokens, merges = fields.texts("tokens"), fields.texts("merges")
    kinds = fields.get("token_type") or [1] * len(tokens)
    if not isinstance(kinds, list) or len(kinds) != len(tokens):
        raise fields.wrong("token_type", f"a list of {len(tokens)} numbers")
    ids = {token: index for index, token in enumerate(tokens)}
    if len(ids) < len(tokens):
        raise ValueError(f"{fields.source}: tokenizer.ggml.tokens has a token twice")
    pairs = [(first, second) for first, _, second in (merge.partition(" ") for merge in merges)]
    try:
        model = BPE(ids, pairs, ignore_merges=name == "llama-bpe")
    except Exception as error:  # the library raises nothing more exact
        raise ValueError(
            f"{fields.source}: tokenizer.ggml.merges do not fit the tokens ({error!s:.80})"
        ) from error

    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = CUTS[name]
    tokenizer.decoder = ByteLevelDecoder()
    if name == "qwen2":
        tokenizer.normalizer = NFC()
    marked = [(token, kind) for token, kind in zip(tokens, kinds, strict=True)]
    tokenizer.add_special_tokens([token for token, kind in marked if kind == _CONTROL])
    tokenizer.add_tokens(
        [
            tokenizers.AddedToken(token, normalized=False)
            for token, kind in marked
            if kind == _USER_DEFINED
        ]
    )
    template = settings.get("tokenizer.chat_template")
    if not isinstance(template, str | None):
        raise settings.wrong("tokenizer.chat_template", "a text")
    return CheckpointTokenizer(
        tokenizer,
        vocabulary,
        starts_with_bos=fields.flag("add_bos_token", name == "llama-bpe"),
        chat_template=template,
    )
