"""A tiny model that converses, for tests of what is done with a real one."""

import pytest
from flax import nnx

from simulations.language_model.text.chat import CheckpointTokenizer
from simulations.language_model.text.tokenizers import SubwordTokenizer
from simulations.language_model.transformer import Transformer, TransformerConfig


@pytest.fixture(scope="module")
def tokenizer() -> CheckpointTokenizer:
    trained = SubwordTokenizer.train(["a good day or a bad day"] * 9, num_tokens=270)
    return CheckpointTokenizer(
        trained.tokenizer,
        trained.vocabulary,
        chat_template="{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}reply:",
    )


@pytest.fixture(scope="module")
def model(tokenizer: CheckpointTokenizer) -> Transformer:
    config = TransformerConfig(tokenizer.vocabulary, width=8, num_layers=1)
    return Transformer(config, rngs=nnx.Rngs(0))
