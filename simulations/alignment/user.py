"""A user's own model: candidates, training, evaluation, a checkpoint and a page, by one command.

``python -m simulations align --checkpoint DIR --prompts FILE --reward NAME --output DIR``
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import jax
import jinja2
import numpy as np

from simulations.alignment.candidates import TextScore, draw_candidates
from simulations.alignment.evaluation import HeldOutPrompts, samples
from simulations.alignment.training import AlignmentConfig, Objective, align
from simulations.language_model.formats import load_checkpoint, save_checkpoint
from simulations.language_model.rewards.text import Length, Reward, Sentiment
from simulations.language_model.text.chat import CheckpointTokenizer, chat_prompts
from simulations.language_model.text.files import documents
from simulations.language_model.text.tokenizers import encode_prompts
from simulations.tools.files import write_atomically
from simulations.tools.progress import Display

REWARDS: Mapping[str, Callable[[], Reward]] = {"sentiment": Sentiment, "length": Length}
OBJECTIVES: Mapping[str, Callable[[argparse.Namespace], Objective]] = {
    "bonbon": lambda c: Objective.bonbon(n=c.n, sft_weight=c.sft_weight, beta=c.beta),
    "sft": lambda c: Objective.sft_best_of_n(),
    "ipo": lambda c: Objective.ipo(beta=c.beta or Objective.bonbon(n=c.n).beta),
    "dpo": lambda c: Objective.dpo(beta=c.beta or 0.1),
    "matched": lambda c: Objective.ipo_matched(sft_weight=c.sft_weight),
}
TEMPLATE = Path(__file__).with_name("report.html")


def main(arguments: list[str]) -> int:
    """Do what ``arguments`` say and return the exit status."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    try:
        page = run(chosen)
    except (
        ValueError,
        OSError,
    ) as error:  # what was passed, or what it names, is not as it must be
        parser.error(str(error))
    print(f"{chosen.output / 'model'}: the aligned model\n{page}: what became of it")
    return 0


def run(chosen: argparse.Namespace) -> Path:
    """Everything; interrupted, the same call goes on with the same result.

    Returns:
        Where the page is.

    Raises:
        ValueError: something passed is not as it must be; what was done is kept in the output.
    """
    reward = TextScore(
        load_reward(chosen.reward), (loaded := load_checkpoint(chosen.checkpoint))[1]
    )
    reference, tokenizer = loaded
    texts = list(documents(chosen.prompts))
    prompts = _encoded(texts, tokenizer, plain=chosen.plain)
    held = max(1, round(chosen.held_out * len(texts)))
    if len(texts) - held < 1 or not 0 < chosen.held_out < 1:
        raise ValueError(
            f"--prompts has {len(texts)} prompts and --held-out is {chosen.held_out}: at least one "
            "must be left to train on and one to judge by"
        )
    objective = OBJECTIVES[chosen.objective](chosen)
    training = AlignmentConfig(
        objective,
        num_steps=chosen.steps,
        batch_size=chosen.batch_size,
        optimizer=chosen.optimizer,
        learning_rate=chosen.learning_rate,
        warmup_steps=min(chosen.warmup_steps, chosen.steps),
        rank=chosen.rank,
        rematerialise=True,
        evaluate_at=tuple(
            sorted({0, *range(0, chosen.steps, chosen.evaluate_every), chosen.steps})
        ),
    )
    work, sizes = chosen.output / "work", {"max_new_tokens": chosen.max_new_tokens}
    train_key, held_key, policy_key, pair_key, align_key = jax.random.split(
        jax.random.key(chosen.seed), 5
    )
    with Display() as display:

        def drawn(key: jax.Array, rows: np.ndarray, title: str, folder: Path) -> Any:
            with display.running(title, unit="responses") as step:
                return draw_candidates(
                    key,
                    reference,
                    rows,
                    reward,
                    num_candidates=chosen.candidates,
                    batch_size=chosen.rows,
                    folder=folder,
                    reward_name=chosen.reward,
                    progress=lambda done, total: step("", done, total),
                    **sizes,
                )

        table = drawn(train_key, prompts[held:], "drawing candidates", work / "candidates")
        judging = drawn(held_key, prompts[:held], "drawing for held-out prompts", work / "held out")
        held_out = HeldOutPrompts(
            policy_key, reference, judging, reward, chosen.candidates, chosen.rows
        )
        pairs = table.pairs(pair_key, n=chosen.n, ranks=chosen.ranks if objective.matched else None)

        def evaluate(policy: Any, step: int) -> Mapping[str, Any]:
            responses = held_out.draw(policy)
            found = held_out.compared(policy, responses).to_json()
            shown = samples(held_out, responses, tokenizer, count=chosen.samples)
            return {**found, "samples": [asdict(each) for each in shown]}

        with display.running("aligning", unit="updates") as step:
            aligned = align(
                training,
                align_key,
                reference,
                pairs,
                evaluate=evaluate,
                folder=work / "alignment",
                checkpoint_every=chosen.checkpoint_every,
                progress=step,
            )
    model = chosen.output / "model"
    if not (model / "config.json").exists():
        save_checkpoint(model, aligned.policy, tokenizer)
    about = {
        "checkpoint": str(chosen.checkpoint),
        "reward": chosen.reward,
        "objective": chosen.objective,
        "prompts": len(texts) - held,
        "held-out prompts": held,
        "candidates of a prompt": chosen.candidates,
        "n": chosen.n,
        "pairs": len(pairs.chosen),
        "prompts whose candidates all tie": int(table.all_tied.sum()),
        "updates": chosen.steps,
        "pairs in an update": chosen.batch_size,
        "rank of the change (0: all parameters)": chosen.rank,
        "seed": chosen.seed,
    }
    return write_report(chosen.output, about, aligned.trajectory)


def write_report(
    output: Path, about: Mapping[str, Any], trajectory: tuple[Mapping[str, Any], ...]
) -> Path:
    """``report.html`` for people and ``report.json`` for programs; the page's path."""
    found = {"about": about, "trajectory": list(trajectory)}
    write_atomically(output / "report.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(**found)
    write_atomically(output / "report.html", page)
    return output / "report.html"


def load_reward(name: str) -> Reward:
    """One of :data:`REWARDS`, or ``module:function``, a function from texts to numbers.

    Raises:
        ValueError: neither, or what it names is not there or cannot be called.
    """
    if name in REWARDS:
        return REWARDS[name]()
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ValueError(
            f"--reward is {name!r:.80}: choose {' or '.join(REWARDS)}, or module:function, a "
            "function from a list of texts to as many numbers"
        )
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # as ``python -m`` has it
    try:
        found: Any = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"--reward is {name!r:.80}, which cannot be imported ({error!s:.80}): name a function "
            "of a module that Python finds from here"
        ) from error
    if not callable(found):
        raise ValueError(
            f"--reward is {name!r:.80}, which is a {type(found).__name__}: name a function"
        )
    return cast(Reward, found)


def _encoded(texts: list[str], tokenizer: CheckpointTokenizer, *, plain: bool) -> np.ndarray:
    """As messages of a user where the model converses, else as the beginnings of texts."""
    if plain or tokenizer.chat_template is None:
        return encode_prompts(texts, tokenizer)
    return chat_prompts([[{"role": "user", "content": text}] for text in texts], tokenizer)


@dataclass(frozen=True)
class _Option:
    default: Any
    help: str


_OPTIONS = {
    "n": _Option(8, "candidates of a pair"),
    "candidates": _Option(16, "drawn for each prompt"),
    "max-new-tokens": _Option(64, "the longest response"),
    "steps": _Option(100, "updates"),
    "batch-size": _Option(8, "pairs in an update"),
    "learning-rate": _Option(1e-4, "after the warm-up"),
    "warmup-steps": _Option(10, "over which the learning rate rises"),
    "rank": _Option(8, "of the change of each matrix (LoRA); 0 trains all parameters"),
    "sft-weight": _Option(0.005, "α of bonbon and matched"),
    "held-out": _Option(0.25, "share of the prompts that judge and do not train; the first ones"),
    "evaluate-every": _Option(25, "updates"),
    "checkpoint-every": _Option(10, "updates"),
    "rows": _Option(256, "responses drawn at once"),
    "samples": _Option(4, "held-out prompts whose responses the page shows"),
    "seed": _Option(0, "of everything"),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulations align", description=__doc__)
    parser.add_argument(
        "--checkpoint", type=Path, required=True, help="directory of transformers' format, or GGUF"
    )
    parser.add_argument("--prompts", type=Path, required=True, help=".txt, .jsonl or .parquet")
    parser.add_argument(
        "--reward", required=True, help=f"{', '.join(REWARDS)}, or module:function of texts"
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="folder, made if it is not there"
    )
    parser.add_argument("--objective", choices=OBJECTIVES, default="bonbon")
    parser.add_argument("--beta", type=float, help="β*_n unless given, .1 for dpo")
    parser.add_argument("--ranks", choices=("further draws", "pool"), default="further draws")
    parser.add_argument("--optimizer", choices=("rmsprop", "adamw"), default="rmsprop")
    parser.add_argument("--plain", action="store_true", help="no chat template")
    for name, option in _OPTIONS.items():
        parser.add_argument(
            f"--{name}",
            type=type(option.default),
            default=option.default,
            help=f"{option.help}; {option.default} by default",
        )
    return parser
