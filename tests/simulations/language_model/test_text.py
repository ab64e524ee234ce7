"""Tokens and the corpus: nothing is lost, and nothing held out is trained on."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.language_model.text.corpus import (
    LONGEST,
    SHORTEST,
    Corpus,
    load_corpus,
    prompt_texts,
    python_documents,
    sentences,
    split_of,
    token_stream,
)
from simulations.language_model.text.tokenizers import (
    BYTES,
    ByteTokenizer,
    SubwordTokenizer,
    Tokenizer,
    Vocabulary,
    encode_prompts,
    read_tokenizer_json,
)

SOME = load_corpus().train[:300]
SUBWORDS = SubwordTokenizer.train(SOME, num_tokens=400)
BOTH = pytest.mark.parametrize("tokenizer", [ByteTokenizer(), SUBWORDS], ids=["bytes", "subwords"])
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20) | st.just(SubwordTokenizer.END)


@BOTH
@given(TEXTS)
def test_decode_inverts_encode(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.encode(text)
    assert tokens.dtype == np.int32
    assert (tokens < tokenizer.vocabulary.eos_id).all()  # no text can end itself
    assert tokenizer.decode(tokens) == text


@BOTH
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_prompts_end_together_and_decode_to_their_texts(
    tokenizer: Tokenizer, texts: list[str]
) -> None:
    prompts, vocabulary = encode_prompts(texts, tokenizer), tokenizer.vocabulary
    assert [tokenizer.decode(prompt) for prompt in prompts] == texts
    assert (np.sum(prompts == vocabulary.bos_id, axis=1) == 1).all()
    padding = prompts == vocabulary.pad_id
    assert (np.diff(padding.astype(int), axis=1) <= 0).all()


@BOTH
def test_decode_stops_at_the_first_eos(tokenizer: Tokenizer) -> None:
    word, eos, pad = (
        tokenizer.encode("hi"),
        tokenizer.vocabulary.eos_id,
        tokenizer.vocabulary.pad_id,
    )
    assert tokenizer.decode(np.array([*word, eos, *word, eos, pad])) == "hi"


def test_a_bos_that_is_eos_as_well_ends_nothing_at_the_start() -> None:
    """GPT-2 begins and ends its texts with one and the same token."""
    end = SUBWORDS.vocabulary.eos_id
    vocabulary = Vocabulary(SUBWORDS.vocabulary.num_tokens, eos_id=end, bos_id=end)
    tokenizer = SubwordTokenizer(SUBWORDS.tokenizer, vocabulary)
    prompts = encode_prompts(["to be", "or not to be"], tokenizer)
    assert [tokenizer.decode(prompt) for prompt in prompts] == ["to be", "or not to be"]
    assert tokenizer.decode(np.array([end])) == ""


def test_a_tokenizer_without_bos_puts_none_before_a_prompt() -> None:
    tokenizer = SubwordTokenizer(SUBWORDS.tokenizer, SUBWORDS.vocabulary, starts_with_bos=False)
    np.testing.assert_array_equal(
        encode_prompts(["to be"], tokenizer)[0], tokenizer.encode("to be")
    )
    with pytest.raises(ValueError, match=r"texts\[1\] has no token"):
        encode_prompts(["a", ""], tokenizer)


def test_subwords_join_the_most_frequent_pair_first() -> None:
    """By hand: "a" "b" is met 6 times, then "ab" "c" 4 times, "c" "d" never twice."""
    tokenizer = SubwordTokenizer.train(["abc"] * 4 + ["ab"] * 2 + ["cd"], num_tokens=1000)
    assert tokenizer.vocabulary == Vocabulary.plain(259)
    ids = [tokenizer.encode(text).tolist() for text in ("ab", "abc", "cd")]
    assert ids == [[256], [257], [*tokenizer.encode("c"), *tokenizer.encode("d")]]


def test_training_twice_gives_the_same_tokenizer_and_a_file_brings_it_back(tmp_path: Path) -> None:
    again = SubwordTokenizer.train(SOME, num_tokens=400)
    assert again.tokenizer.to_str() == SUBWORDS.tokenizer.to_str()
    SUBWORDS.save(tmp_path / "tokenizer.json")
    loaded = SubwordTokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.sha256 == SUBWORDS.sha256
    assert loaded.decode(loaded.encode(SubwordTokenizer.END)) == SubwordTokenizer.END
    other = SubwordTokenizer.train(SOME, num_tokens=401)
    assert other.sha256 != SUBWORDS.sha256 != ByteTokenizer().sha256


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text('{"model": ')
    with pytest.raises(ValueError, match=r"tokenizer\.json is not a tokenizer\.json"):
        read_tokenizer_json(path)
    path.write_text(SUBWORDS.tokenizer.to_str().replace(SubwordTokenizer.END, "<eos>"))
    with pytest.raises(ValueError, match="not a tokenizer trained here"):
        SubwordTokenizer.load(path)
    with pytest.raises(ValueError, match="ids up to 399, but the vocabulary ends at 300"):
        SubwordTokenizer(SUBWORDS.tokenizer, Vocabulary.plain(300))


def test_the_splits_have_the_shares_that_are_stated() -> None:
    """3/4, 1/16 and 3/16 of texts, within four standard deviations of a fair hash."""
    number = 10_000
    splits = [split_of(f"text {'abc'[i % 3]}{'defgh'[i % 5]}" + "x" * i) for i in range(number)]
    for split, share in {"train": 3 / 4, "validation": 1 / 16, "scoring": 3 / 16}.items():
        spread = np.sqrt(number * share * (1 - share))
        assert abs(splits.count(split) - share * number) < 4 * spread


def test_all_sentences_of_a_document_are_in_the_split_of_its_name() -> None:
    """So that what is held out in one Python version is held out in all of them."""
    corpus, seen = load_corpus(), set()
    held_out = {name: set(getattr(corpus, name)) for name in ("train", "validation", "scoring")}
    home = {text: name for name, texts in held_out.items() for text in texts}
    places: dict[str, list[str]] = {}
    for name, text in python_documents():
        for sentence in sentences(text):
            if sentence in home:
                places.setdefault(sentence, []).append(split_of(name))
                seen.add(split_of(name))
    assert seen == {"train", "validation", "scoring"}
    # What several documents say is where one of them is; nearly all is said by one alone.
    assert all(home[sentence] in splits for sentence, splits in places.items())
    assert np.mean([len(splits) == 1 for splits in places.values()]) > 0.9


def test_special_ids_are_distinct_inputs() -> None:
    vocabulary = Vocabulary.plain(7)
    special = (vocabulary.eos_id, vocabulary.bos_id, vocabulary.pad_id)
    assert special == (6, 7, 8)
    assert vocabulary.num_inputs == 8  # PAD is read, but has no row


def test_corpus_is_the_same_each_time_and_its_hash_sees_one_letter() -> None:
    first, second = load_corpus(), load_corpus()
    assert first == second
    changed = first.train[:-1] + (first.train[-1] + "!",)
    assert type(first)(changed, first.validation, first.scoring).sha256 != first.sha256
    assert 1_200_000 < first.num_bytes < 1_500_000


def test_splits_share_no_sentence() -> None:
    corpus = load_corpus()
    splits = [set(corpus.train), set(corpus.validation), set(corpus.scoring)]
    assert sum(map(len, splits)) == len(set.union(*splits))
    # And none is repeated within a split, which would weigh it twice.
    assert sum(map(len, splits)) == len(corpus.train + corpus.validation + corpus.scoring)


def test_the_split_of_a_text_does_not_depend_on_its_layout() -> None:
    for sentence in load_corpus().validation[:40]:
        assert split_of(sentence) == split_of(sentence.upper().replace(" ", "\n"))


def test_nothing_held_out_has_six_words_in_a_row_that_training_has() -> None:
    text = "Four tall grey birds stood beside the quiet river and did not move at all."
    train, held_out = text, "They say that four tall grey birds stood beside a house, as they do."
    assert (split_of(train), split_of(held_out)) == ("train", "scoring")
    assert Corpus.of([train, held_out]) == Corpus((train,), (), ())
    five = held_out.replace("beside", "by")
    corpus = Corpus.of([train, five])
    assert sum(map(len, (corpus.train, corpus.validation, corpus.scoring))) == 2

    corpus = load_corpus()
    words = [re.findall("[a-z]+", text.lower()) for text in corpus.train]
    trained_on = " | ".join(" ".join(text) for text in words)
    for text in corpus.validation[::7]:
        held_out = re.findall("[a-z]+", text.lower())
        for start in range(len(held_out) - 5):
            assert f" {' '.join(held_out[start : start + 6])} " not in trained_on


def test_sentences_are_prose_on_one_line() -> None:
    for sentence in load_corpus().train:
        assert SHORTEST <= len(sentence) <= LONGEST
        assert "\n" not in sentence
        assert "  " not in sentence


def test_stream_holds_every_document_between_its_marks() -> None:
    documents = ["one", "twö", ""]
    tokenizer = ByteTokenizer()
    stream = token_stream(documents, tokenizer)
    pieces = np.split(stream, np.flatnonzero(stream == BYTES.bos_id)[1:])
    assert [tokenizer.decode(piece) for piece in pieces] == documents
    assert all(piece[-1] == BYTES.eos_id for piece in pieces)


def test_prompts_are_whole_first_words() -> None:
    validation = load_corpus().validation
    prompts = prompt_texts(validation, num_prompts=16, num_bytes=32)
    assert len(prompts) == 16
    places = []
    for prompt in prompts:
        assert 0 < len(prompt) <= 32
        places.append([text.startswith(prompt + " ") for text in validation].index(True))
    assert max(places) > 0.8 * len(validation)  # from all over the texts


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Vocabulary.plain(1), "num_tokens is 1"),
        (lambda: encode_prompts([], ByteTokenizer()), "texts is empty"),
        (lambda: token_stream([], ByteTokenizer()), "documents is empty"),
        (lambda: Corpus.of([]), "documents is empty"),
        (lambda: SubwordTokenizer.train(["a"], num_tokens=256), "num_tokens is 256"),
        (lambda: prompt_texts(["Short."], num_prompts=1, num_bytes=4), "num_prompts is 1"),
        (lambda: prompt_texts(["Short."], num_prompts=0, num_bytes=3), "num_prompts is 0: pass 1"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
