"""Tokens and the corpus: nothing is lost, and nothing held out is trained on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.language_model.text.corpus import (
    LONGEST,
    SHORTEST,
    load_corpus,
    prompt_texts,
    token_stream,
)
from simulations.language_model.text.tokenizers import (
    BYTES,
    Vocabulary,
    decode,
    encode,
    encode_prompts,
)


@given(st.text(max_size=20))
def test_decode_inverts_encode(text: str) -> None:
    assert decode(encode(text)) == text


@given(st.lists(st.text(max_size=8), min_size=1, max_size=4))
def test_prompts_end_together_and_decode_to_their_texts(texts: list[str]) -> None:
    prompts = encode_prompts(texts)
    assert [decode(prompt) for prompt in prompts] == texts
    assert (np.sum(prompts == BYTES.bos_id, axis=1) == 1).all()
    padding = prompts == BYTES.pad_id
    assert (np.diff(padding.astype(int), axis=1) <= 0).all()


def test_decode_stops_at_the_first_eos() -> None:
    assert decode(np.array([104, 105, BYTES.eos_id, 33, BYTES.pad_id])) == "hi"


def test_decode_stops_at_the_first_of_two_eos() -> None:
    assert decode(np.array([72, BYTES.eos_id, 33, BYTES.eos_id])) == "H"


def test_the_splits_have_the_shares_that_are_stated() -> None:
    """3/4, 1/16 and 3/16 of the sentences, within four standard deviations of a fair hash."""
    corpus = load_corpus()
    splits = {3 / 4: corpus.train, 1 / 16: corpus.validation, 3 / 16: corpus.scoring}
    total = sum(map(len, splits.values()))
    for share, split in splits.items():
        assert abs(len(split) - share * total) < 4 * np.sqrt(total * share * (1 - share))


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
    assert first.num_bytes > 150_000


def test_splits_share_no_sentence() -> None:
    corpus = load_corpus()
    splits = [set(corpus.train), set(corpus.validation), set(corpus.scoring)]
    assert sum(map(len, splits)) == len(set.union(*splits))
    # And none is repeated within a split, which would weigh it twice.
    assert sum(map(len, splits)) == len(corpus.train + corpus.validation + corpus.scoring)


def test_the_split_of_a_sentence_does_not_depend_on_the_rest() -> None:
    """So that a sentence held out in one Python version is held out in all of them."""
    corpus = load_corpus()
    sentences = list(corpus.train[:40] + corpus.validation[:20] + corpus.scoring[:20])
    alone = load_corpus({"other": "\n\n".join(reversed(sentences))})
    assert set(alone.train) == set(corpus.train[:40])
    assert set(alone.validation) == set(corpus.validation[:20])
    assert set(alone.scoring) == set(corpus.scoring[:20])


def test_sentences_are_prose_on_one_line() -> None:
    for sentence in load_corpus().train:
        assert SHORTEST <= len(sentence) <= LONGEST
        assert "\n" not in sentence
        assert "  " not in sentence


def test_stream_holds_every_document_between_its_marks() -> None:
    documents = ["one", "twö", ""]
    stream = token_stream(documents)
    pieces = np.split(stream, np.flatnonzero(stream == BYTES.bos_id)[1:])
    assert [decode(piece) for piece in pieces] == documents
    assert all(piece[-1] == BYTES.eos_id for piece in pieces)


def test_prompts_are_whole_first_words() -> None:
    validation = load_corpus().validation
    for prompt in prompt_texts(validation, num_prompts=16, num_bytes=32):
        assert 0 < len(prompt) <= 32
        assert any(text.startswith(prompt + " ") for text in validation)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Vocabulary.plain(1), "num_tokens is 1"),
        (lambda: encode_prompts([]), "texts is empty"),
        (lambda: token_stream([]), "documents is empty"),
        (lambda: prompt_texts(["Short."], num_prompts=1, num_bytes=4), "num_prompts is 1"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
