"""Write tests/golden/smollm2_answers.json: the greedy answers of SmolLM2-135M-Instruct.

python -m tests.golden.make_answers, after ``make real``. That transformers would choose the same
tokens is a test of the oracle group.
"""

import json
from pathlib import Path

from simulations.language_model.generate import greedy
from simulations.language_model.real_model import SHA256, smollm2
from simulations.language_model.text.chat import chat_prompts

FILE = Path(__file__).with_name("smollm2_answers.json")
QUESTIONS = (
    "What is the capital of France?",
    "Hi",
    "Give me three tips for staying healthy in summer.",
    "Write one sentence about the sea.",
    "Translate to French: Good morning, my friend.",
)


def main() -> None:
    """Write the answers, of at most 64 tokens."""
    model, tokenizer = smollm2()
    prompts = chat_prompts([[{"role": "user", "content": q}] for q in QUESTIONS], tokenizer)
    answers = greedy(model, prompts, max_new_tokens=64)
    rows = [
        {
            "question": question,
            "tokens": answer[answer < tokenizer.vocabulary.pad_id].tolist(),
            "answer": tokenizer.decode(answer),
        }
        for question, answer in zip(QUESTIONS, answers, strict=True)
    ]
    found = {"sha256": SHA256, "max_new_tokens": 64, "answers": rows}
    FILE.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
