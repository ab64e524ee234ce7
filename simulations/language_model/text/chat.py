"""The tokenizer of a checkpoint, and conversations as the text that its model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jinja2
import jinja2.sandbox
import numpy as np

from simulations.language_model.text.tokenizers import SubwordTokenizer, encode_prompts

Message = Mapping[str, str]
"""``{"role": "user", "content": "…"}``."""


@dataclass(frozen=True)
class CheckpointTokenizer(SubwordTokenizer):
    """The tokenizer of a checkpoint: the texts of special tokens are read as those tokens.

    Attributes:
        chat_template: writes a conversation as a text; None for a model that was not trained to
            converse.
    """

    chat_template: str | None = None

    def chat(self, messages: Sequence[Message]) -> str:
        """The text of ``messages`` and of the beginning of an answer to them.

        The template is the checkpoint's: it runs in a sandbox that shows it the messages alone. It
        may take as long as it likes, so read a template of unknown origin first.

        Raises:
            ValueError: there is no template, or it refuses the messages.
        """
        if self.chat_template is None:
            raise ValueError(
                "the checkpoint has no chat template: pass plain texts to encode_prompts"
            )
        ends = {
            name: self.tokenizer.id_to_token(index)
            for name, index in (
                ("bos_token", self.vocabulary.bos_id),
                ("eos_token", self.vocabulary.eos_id),
            )
        }
        try:
            template = _SANDBOX.from_string(self.chat_template)
            return template.render(messages=list(messages), add_generation_prompt=True, **ends)
        except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError) as error:
            raise ValueError(
                f"the chat template refuses the messages ({error!s:.80}): each must have a role "
                "that it knows and a content, in an order that it allows"
            ) from error


def chat_prompts(
    conversations: Sequence[Sequence[Message]], tokenizer: CheckpointTokenizer
) -> np.ndarray:
    """Prompts ``[B, P]`` that ask for an answer to each conversation, with PAD to the left.

    No BOS is added, since a chat template writes what its model expects.
    """
    texts = [tokenizer.chat(messages) for messages in conversations]
    return encode_prompts(texts, replace(tokenizer, starts_with_bos=False))


def _raise(message: str) -> Any:
    raise jinja2.TemplateError(message)


# As transformers sets up its own, on which checkpoints' templates rely.
_SANDBOX = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
)
_SANDBOX.globals["raise_exception"] = _raise
