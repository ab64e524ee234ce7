"""Windows hold every token once, and documents whole where they fit."""

from functools import partial

import jax
import numpy as np
import pytest

from simulations.language_model import windows
from simulations.language_model.first_parameters import pair_counts
from simulations.language_model.text.tokenizers import Vocabulary
from simulations.language_model.windows import Windows, _fitted, chunks, document_starts


@pytest.mark.parametrize("size", [2, 5, 18])
def test_an_epoch_predicts_every_token_once_and_cuts_no_document_that_fits(size: int) -> None:
    lengths = np.random.default_rng(0).integers(1, 30, 40)
    starts, end = np.cumsum(lengths) - lengths, int(lengths.sum())
    windows = Windows.pack(starts, end, size)
    number = windows.first.size - 1
    epochs = [windows.places(jax.random.key(0), number, epoch) for epoch in range(2)]
    for places in epochs:
        predicted = []
        for row in places:
            row = row[row >= 0]
            breaks = np.flatnonzero(np.diff(row) != 1) + 1
            for part in np.split(row, breaks):
                document = np.searchsorted(starts, part[0], side="right") - 1
                if lengths[document] <= size:
                    assert part[0] == starts[document]
                targets = part[~np.isin(part, starts)]
                predicted += [place for place in targets if place > part[0]]
        assert sorted(predicted) == sorted(set(range(end)) - set(starts.tolist()))
    assert sorted(epochs[0].tolist()) == sorted(epochs[1].tolist())
    assert (epochs[0] != epochs[1]).any()
    # The same places a step at a time, over the end of the epoch.
    steps = [windows.places(jax.random.key(0), 3, step) for step in range(2 * number // 3)]
    both = np.concatenate(epochs)[: len(steps) * 3]
    np.testing.assert_array_equal(np.concatenate(steps), both)


def test_windows_are_nearly_full() -> None:
    lengths = np.random.default_rng(0).integers(10, 60, 3000)
    window = _fitted(lengths, 65)
    filled = np.bincount(window, lengths)
    assert filled.max() <= 65
    assert filled.mean() > 0.95 * 65


def test_documents_end_with_the_token_that_begins_them_where_bos_is_eos(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Read in parts of three tokens, so that turns go on from one part to the next."""
    monkeypatch.setattr(windows, "chunks", partial(chunks, size=3))
    shared, apart = Vocabulary(3, eos_id=2, bos_id=2), Vocabulary.plain(3)
    documents = np.array([2, 0, 1, 2, 2, 2, 2, 1, 2])  # the second is empty
    assert document_starts(documents, shared).tolist() == [0, 4, 6]
    np.testing.assert_array_equal(pair_counts(documents, shared), [[0, 1, 0], [0, 0, 2], [1, 1, 0]])
    assert document_starts(np.array([0, 2, 3, 1, 2, 3]), apart).tolist() == [0, 2, 5]
