"""``python -m simulations language-model answer "…"``: a model that converses answers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from simulations.language_model.formats import load_checkpoint
from simulations.language_model.generate import greedy
from simulations.language_model.real_model import smollm2
from simulations.language_model.text.chat import chat_prompts

QUESTIONS = ("What is the capital of France?", "Write one sentence about the sea.")


def main(arguments: list[str]) -> int:
    """Do what ``arguments`` say and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m simulations language-model", description=__doc__
    )
    actions = parser.add_subparsers(dest="action", required=True)
    answer = actions.add_parser("answer", help="questions, by the most probable token at each step")
    answer.add_argument("questions", nargs="*", default=QUESTIONS, help="two of our own by default")
    answer.add_argument(
        "--checkpoint",
        type=Path,
        help="directory of transformers' format, or GGUF file; default: SmolLM2-135M-Instruct",
    )
    answer.add_argument("--max-new-tokens", type=int, default=64)
    chosen = parser.parse_args(arguments)
    try:
        for question, reply in answers(chosen.questions, chosen.checkpoint, chosen.max_new_tokens):
            print(f"> {question}\n{reply}\n")
    except ValueError as error:  # what was passed, or what it names, is not as it must be
        parser.error(str(error))
    return 0


def answers(
    questions: Sequence[str], checkpoint: Path | None, max_new_tokens: int
) -> Iterator[tuple[str, str]]:
    """Each question and its answer, with … where it was cut."""
    model, tokenizer = smollm2() if checkpoint is None else load_checkpoint(checkpoint)
    prompts = chat_prompts([[{"role": "user", "content": text}] for text in questions], tokenizer)
    for question, tokens in zip(
        questions, greedy(model, prompts, max_new_tokens=max_new_tokens), strict=True
    ):
        cut = "" if tokenizer.vocabulary.eos_id in tokens else " …"
        yield question, tokenizer.decode(tokens) + cut
