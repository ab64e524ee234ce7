"""The n-gram yardstick is the textbook's, and a law."""

from collections.abc import Hashable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.language_model.text.corpus import bits_per_byte, load_corpus, token_stream
from simulations.language_model.text.kneser_ney import CountedElsewhere, KneserNey
from simulations.language_model.text.tokenizers import ByteTokenizer, Vocabulary
from tests.oracles import kneser_ney as oracle

VOCABULARY = Vocabulary.plain(6)
DOCUMENTS = st.lists(st.lists(st.integers(0, 4), max_size=12), min_size=1, max_size=12)


def stream_of(documents: list[list[int]]) -> np.ndarray:
    bos, eos = VOCABULARY.bos_id, VOCABULARY.eos_id
    return np.concatenate([[bos, *document, eos] for document in documents]).astype(np.int32)


def in_words(documents: list[list[int]]) -> list[list[int]]:
    return [[*document, VOCABULARY.eos_id] for document in documents]


def contexts(documents: list[list[int]]) -> Iterator[tuple[tuple, Hashable]]:
    for document in in_words(documents):
        tokens = (oracle.BOS, *document)
        yield from ((tokens[:end], tokens[end]) for end in range(1, len(tokens)))


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@given(DOCUMENTS, DOCUMENTS)
def test_probabilities_are_those_of_the_definition(order, trained_on, told) -> None:
    model = KneserNey.fit(stream_of(trained_on), VOCABULARY, order=order)
    textbook = oracle.KneserNey(in_words(trained_on), range(6), order)
    log_probs = model.log_probs(stream_of(told))
    assert np.isnan(log_probs[stream_of(told) == VOCABULARY.bos_id]).all()
    expected = [textbook.prob(token, context) for context, token in contexts(told)]
    np.testing.assert_allclose(np.exp(log_probs[~np.isnan(log_probs)]), expected, rtol=1e-12)


@pytest.mark.parametrize("order", [1, 3])
@given(DOCUMENTS, DOCUMENTS)
def test_a_bos_that_is_eos_as_well_changes_no_law(order, trained_on, told) -> None:
    """As in GPT-2: the end of a document is predicted, and its beginning is not."""
    shared = Vocabulary(6, eos_id=5, bos_id=5)
    apart, together = (
        (KneserNey.fit(of(trained_on), vocabulary, order=order).log_probs(of(told)))
        for vocabulary, of in (
            (VOCABULARY, stream_of),
            (shared, lambda documents: np.minimum(stream_of(documents), 5)),
        )
    )
    np.testing.assert_array_equal(together, apart)


@pytest.mark.parametrize("order", [1, 2, 4])
@given(DOCUMENTS, st.lists(st.integers(0, 4), max_size=4))
def test_the_law_after_any_context_sums_to_one(order, trained_on, context) -> None:
    model = KneserNey.fit(stream_of(trained_on), VOCABULARY, order=order)
    rows = [[VOCABULARY.bos_id, *context, token] for token in range(VOCABULARY.num_tokens)]
    probs = np.exp([model.log_probs(np.array(row))[-1] for row in rows])
    assert probs.sum() == pytest.approx(1, abs=1e-12)
    assert (probs > 0).all()


@pytest.mark.parametrize("order", [1, 2, 4])
@given(DOCUMENTS, DOCUMENTS)
def test_whole_laws_have_the_probabilities_of_single_tokens(order, trained_on, told) -> None:
    model, stream = KneserNey.fit(stream_of(trained_on), VOCABULARY, order=order), stream_of(told)
    predicted = stream != VOCABULARY.bos_id
    laws = model.laws(model.contexts(stream)[:, predicted])
    np.testing.assert_allclose(laws.sum(axis=1), 1, atol=1e-6)
    expected = np.exp(model.log_probs(stream)[predicted])
    told_probs = laws[np.arange(len(laws)), stream[predicted]]
    np.testing.assert_allclose(told_probs, expected, rtol=1e-5)


def test_laws_counted_elsewhere_do_not_know_the_document_that_they_are_of() -> None:
    rng = np.random.default_rng(0)
    documents = rng.integers(0, 5, (7, 6)).tolist()
    stream, order = stream_of(documents), 3
    counted = CountedElsewhere(stream, VOCABULARY, order=order, num_parts=3)
    places = np.arange(stream.size).reshape(7, 8)[:, 1:]  # a row for each document, without BOS
    laws = counted(places)
    for number, rows in enumerate(laws):
        others = [text for other, text in enumerate(documents) if (other - number) % 3]
        model = KneserNey.fit(stream_of(others), VOCABULARY, order=order)
        own = stream_of([documents[number]])
        probs = np.exp(model.log_probs(own))[1:]
        np.testing.assert_allclose(rows[np.arange(7), own[1:]], probs, rtol=1e-5)


def test_discounts_of_a_long_text_are_estimated() -> None:
    """The same as above where all of n₁ … n₄ are positive, which short texts do not have."""
    rng = np.random.default_rng(0)
    documents = [rng.choice(5, p=[0.5, 0.2, 0.15, 0.1, 0.05], size=12).tolist() for _ in range(30)]
    model = KneserNey.fit(stream_of(documents), VOCABULARY, order=4)
    textbook = oracle.KneserNey(in_words(documents), range(6), 4)
    assert textbook.discounts[4] != [0.0, 0.5, 1.0, 1.5] != textbook.discounts[3]
    log_probs = model.log_probs(stream_of(documents[:9]))
    expected = [textbook.prob(token, context) for context, token in contexts(documents[:9])]
    np.testing.assert_allclose(np.exp(log_probs[~np.isnan(log_probs)]), expected, rtol=1e-12)


def test_words_repeated_in_training_are_learnt_and_no_others() -> None:
    """One sentence a hundred times: 4-grams all but know it; another order of it they do not."""
    documents = [[0, 1, 2, 3]] * 100
    model = KneserNey.fit(stream_of(documents), VOCABULARY, order=4)
    assert np.nansum(model.log_probs(stream_of(documents[:1]))) > -0.1
    assert np.nansum(model.log_probs(stream_of([[3, 1, 0, 2]]))) < -3


def test_longer_contexts_help_on_english() -> None:
    """On a tenth of the corpus, in bits per byte; a file compressor that looks back far needs 3."""
    corpus, tokenizer = load_corpus(), ByteTokenizer()
    train = token_stream(corpus.train[:1000], tokenizer)
    held_out = corpus.validation[:100]
    stream = token_stream(held_out, tokenizer)
    found = [
        bits_per_byte(
            -np.nansum(KneserNey.fit(train, tokenizer.vocabulary, order=n).log_probs(stream)),
            held_out,
        )
        for n in (1, 2, 3, 4)
    ]
    assert sorted(found, reverse=True) == found
    assert 4.0 < found[0] < 4.8
    assert 2.0 < found[3] < 2.9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: KneserNey.fit(stream_of([[0]]), VOCABULARY, order=0), "order is 0"),
        (lambda: KneserNey.fit(np.array([0, 6]), VOCABULARY, order=2), "first is BOS, 6"),
        (lambda: KneserNey.fit(np.array([], int), VOCABULARY, order=2), "shape \\(0,\\)"),
        (lambda: KneserNey.fit(np.array([6, 6]), VOCABULARY, order=2), "no token besides BOS"),
        (
            lambda: CountedElsewhere(stream_of([[0], [1]]), VOCABULARY, order=2, num_parts=3),
            "num_parts is 3 and the stream has 2 documents",
        ),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
