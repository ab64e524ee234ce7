"""A pool's answers make pairs; policies are judged on instructions that no pair is of."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from flax import nnx
from scipy import stats
from scipy.optimize import brentq

from paper_repro.papers.bonbon_alignment import real_model
from simulations import __main__ as commands
from simulations.__main__ import main
from simulations.alignment.evaluation import HeldOutPrompts
from simulations.alignment.training import AlignmentConfig, Objective
from simulations.experiments import real_alignment, real_pool, response_pool
from simulations.experiments.real_alignment import RealAlignmentConfig
from simulations.experiments.text_policies import TextAlignmentResults, TextTask
from simulations.language_model import real_model as real_model_files
from simulations.language_model.generate import response_log_probs
from simulations.language_model.rewards.text import Sentiment
from simulations.language_model.text.chat import CheckpointTokenizer
from simulations.language_model.transformer import Transformer

INSTRUCTIONS = ("Say good.", "Name a bad day.", "Be.")
DATA = Path(real_alignment.__file__).with_name("data")
CONFIG = RealAlignmentConfig(
    num_held_out=1,
    num_responses=2,
    batch_size=2,
    alignment=AlignmentConfig(
        Objective(), num_steps=2, batch_size=2, learning_rate=1e-2, rank=2, evaluate_at=(1, 2)
    ),
)


@pytest.fixture(scope="module")
def pool(model: Transformer, tokenizer: CheckpointTokenizer) -> pl.DataFrame:
    sizes = response_pool.ResponsePoolConfig(num_candidates=8, max_new_tokens=5, batch_size=8)
    return response_pool.run(sizes, jax.random.key(0), model, tokenizer, INSTRUCTIONS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("aligned")


def found(pool, model, tokenizer, folder) -> list[TextAlignmentResults]:
    key = jax.random.key(1)
    return list(real_alignment.run(CONFIG, key, model, tokenizer, pool, folder=folder))


@pytest.fixture(scope="module")
def results(pool, model, tokenizer, folder) -> list[TextAlignmentResults]:
    return found(pool, model, tokenizer, folder)


def test_candidates_are_the_pools_answers(
    pool: pl.DataFrame, model: Transformer, tokenizer: CheckpointTokenizer
) -> None:
    table = real_alignment.candidates(pool, tokenizer)
    assert table.tokens.shape[:2] == table.rewards.shape == (3, 8)
    rows = table.tokens.reshape(24, -1)
    log_probs = response_log_probs(model, np.repeat(table.prompts, 8, axis=0), rows)
    np.testing.assert_allclose(table.log_probs.reshape(-1), np.asarray(log_probs), atol=1e-5)
    sentiments = Sentiment()([tokenizer.decode(row) for row in rows])
    np.testing.assert_array_equal(table.rewards.reshape(-1), sentiments)


def test_what_has_been_found_is_told_after_each_method(
    results: list[TextAlignmentResults],
) -> None:
    methods = [list(dict.fromkeys(p.method for p in told.policies)) for told in results]
    assert methods == [[m.name for m in CONFIG.methods[:i]] for i in (1, 2, 3)]
    assert {p.step for p in results[-1].policies} == {1, 2}


def test_no_pair_is_of_an_instruction_that_judges(
    pool, model, tokenizer, folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def align(self, key, methods, config, table, **_):
        seen.append((self, table))
        return iter(())

    monkeypatch.setattr(TextTask, "align", align)
    found(pool, model, tokenizer, folder)
    (task, table), whole = seen[0], real_alignment.candidates(pool, tokenizer)
    np.testing.assert_array_equal(table.prompts, whole.prompts[:2])
    np.testing.assert_array_equal(table.rewards, whole.rewards[:2])
    np.testing.assert_array_equal(task.held_out.table.tokens, whole.tokens[2:])
    assert task.prompts == INSTRUCTIONS[2:]


def test_what_was_done_is_not_done_again(
    pool, model, tokenizer, folder, results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HeldOutPrompts, "draw", lambda *_: pytest.fail("evaluated again"))
    assert found(pool, model, tokenizer, folder)[-1] == results[-1]


@pytest.mark.slow
def test_all_parameters_are_trained_in_the_models_own_precision(
    pool, model, tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference that pairs are compared with is the model in that precision."""
    coarse = Transformer(replace(model.config, dtype="bfloat16"), rngs=nnx.Rngs(0))
    nnx.update(coarse, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), nnx.state(model)))
    config = replace(
        CONFIG, methods=CONFIG.methods[:1], alignment=replace(CONFIG.alignment, rank=0)
    )
    tables = []
    whole = TextTask.align
    monkeypatch.setattr(
        TextTask,
        "align",
        lambda self, key, methods, config, table, **rest: (
            tables.append(table) or whole(self, key, methods, config, table, **rest)
        ),
    )
    with jax.numpy_dtype_promotion("standard"):
        [told] = real_alignment.run(
            config, jax.random.key(1), coarse, tokenizer, pool, folder=tmp_path
        )
        rows = tables[0].tokens.reshape(16, -1)
        found = response_log_probs(coarse, np.repeat(tables[0].prompts, 8, axis=0), rows)
    assert {p.step for p in told.policies} == {1, 2}
    np.testing.assert_allclose(tables[0].log_probs.reshape(-1), found, atol=0.05)
    exact = real_alignment.candidates(pool, tokenizer).log_probs[:2]
    assert np.abs(tables[0].log_probs - exact).max() > 1e-4


def test_claims_on_the_real_model_are_read_off_the_runs() -> None:
    """By means over seeds in plain Python; every method of the command, at every evaluation."""
    found, alone = (
        json.loads((DATA / f"smollm2_{which}.json").read_text())["policies"]
        for which in ("all_parameters", "low_rank")
    )
    config = real_alignment.ALL_PARAMETERS
    methods = [m.name for m in real_alignment.METHODS + real_alignment.FURTHER_METHODS]
    assert {p["method"] for p in found} == set(methods)
    assert {p["seed"] for p in found} == {0, 1, 2}
    assert {p["step"] for p in found + alone} == set(config.alignment.evaluate_at)

    def mean(method: str, step: int, name: str, policies=found) -> float:
        rows = [p["found"] for p in policies if (p["method"], p["step"]) == (method, step)]
        return sum(row[name]["mean"] for row in rows) / len(rows)

    def value(name: str) -> np.ndarray:
        [claim] = [c for c in real_model.CLAIMS if c.id == f"bonbon/real-model-{name}"]
        assert claim.compute is not None
        return np.atleast_1d(np.asarray(claim.compute(), np.float64))

    rates = {m: mean(m, 300, "win_rate") for m in methods}
    for index, policies in ((0, found), (2, alone)):
        past = value("past-best-of-n")[index : index + 2]
        kl, rate = (mean("BoNBoN", 300, name, policies) for name in ("kl", "win_rate"))
        assert past == pytest.approx((kl - np.log(8) + 7 / 8, rate - 8 / 9))
    assert value("combined-loss") == pytest.approx(rates["BoNBoN"] - rates["SFT-BoN"])
    early = mean("BoNBoN", 30, "win_rate")
    assert value("sft-inefficient") == pytest.approx(early - rates["SFT-BoN"])
    assert value("passes-best-of-n-below-it") == pytest.approx(8 / 9 - early)
    assert mean("BoNBoN", 30, "kl") > np.log(8) - 7 / 8
    best, reference = 40.99166726600614, 35.60205078125  # of the pool's answers
    longer = {m: mean(m, 300, "mean_length") - best for m in methods}
    [claim] = [c for c in real_model.CLAIMS if c.id == "bonbon/real-model-length"]
    assert value("length") == pytest.approx([longer[str(m)] for m in claim.labels])
    assert set(claim.labels) == set(methods) - {"SFT-BoN"}
    assert value("sft-length") == pytest.approx(abs(longer["SFT-BoN"]))
    assert value("combined-loss-is-ipo") == pytest.approx(abs(rates["BoNBoN"] - rates["IPO-BoN"]))
    own = mean("matched targets", 300, "kl")
    assert value("own-targets") == pytest.approx(own - np.log(8) + 7 / 8)
    assert mean("BoNBoN", 300, "reference_length") == pytest.approx(reference)
    # The frontier is more than best-of-n's win rate at the divergence of best-of-n.
    for entry, (method, step) in enumerate([("BoNBoN", 30), ("BoNBoN", 300), ("SFT-BoN", 300)]):
        kl, rate = (mean(method, step, name) for name in ("kl", "win_rate"))
        extra: Any = brentq(lambda m, kl=kl: np.log1p(m) - m / (1 + m) - kl, 0, 1e9)
        n = 1 + extra
        assert value("below-the-frontier")[entry] == pytest.approx(n / (n + 1) - rate, abs=0.01)

    def passing(method: str) -> float:
        low, high = (np.log(mean(method, step, "kl")) for step in (30, 100))
        part = (np.log(mean("BoNBoN", 300, "kl")) - low) / (high - low)
        before, after = (mean(method, step, "win_rate") for step in (30, 100))
        return before + part * (after - before)

    dpo = passing(real_model.DPO)
    assert value("beats-dpo-at-equal-kl") == pytest.approx(rates["BoNBoN"] - dpo)
    assert value("on-one-way-with-dpo") == pytest.approx(abs(passing("BoNBoN") - dpo))


def test_the_page_has_the_numbers_of_the_runs() -> None:
    """To the digits that it gives, errors over seeds and, of one seed, over instructions."""
    policies = [
        json.loads((DATA / f"smollm2_{which}.json").read_text())["policies"]
        for which in ("all_parameters", "low_rank")
    ]
    page = (Path(__file__).parents[2] / "docs" / "alignment-training.md").read_text("utf-8")
    page = page[page.index("## On SmolLM2") :]
    columns = (0, "win_rate"), (0, "kl"), (0, "mean_length"), (1, "win_rate"), (1, "kl")
    compared = 0
    for name, *cells in (map(str.strip, line[2:-2].split("|")) for line in page.splitlines()):
        method = name.replace(" pairs", "").replace("β = .", "β = 0.")
        for cell, (run, what) in zip(cells, columns, strict=False):
            found = [
                p["found"][what] for p in policies[run] if (p["method"], p["step"]) == (method, 300)
            ]
            if len(cells) < len(columns) or not found:
                continue
            means = [each["mean"] for each in found]
            error = stats.sem(means) if len(means) > 1 else found[0]["std_error"]
            for told, number in zip(cell.split(" ± "), (np.mean(means), error), strict=False):
                digits = len(told.partition(".")[2])
                assert float(told) == pytest.approx(number, abs=0.5001 * 10**-digits), (name, what)
                compared += 1
    assert compared == 7 * 5 + 6 * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "-1"], r"--seed must be in \[0, 2\^32\), no two alike, got \[-1\]"),
        (["--seed", "1", str(2**32 + 1)], r"--seed must be in .*, got \[1, 4294967297\]"),
        (["--seed", "3", "3"], r"--seed must be .* no two alike, got \[3, 3\]"),
        (["--output", "."], r"--output must be a file, got the folder \.: name one"),
    ],
)
def test_options_are_refused_before_the_run(
    options: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """Two seeds that are equal are one run, whose errors would look smaller."""
    monkeypatch.setattr(real_model_files, "smollm2", lambda **_: pytest.fail("it ran"))
    with pytest.raises(SystemExit, match="2"):
        main(["align-real", *options])
    assert re.search(message, capsys.readouterr().err)


def test_the_command_keeps_what_it_found_of_every_seed(
    model, tokenizer, pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """After each method of each; the runs of other seeds are other runs."""
    few = replace(CONFIG, methods=CONFIG.methods[:1])
    monkeypatch.setattr(real_alignment, "LOW_RANK", few)
    monkeypatch.setattr(real_pool, "load_pool", lambda: pool)
    monkeypatch.setattr(real_model_files, "smollm2", lambda dtype: (model, tokenizer))
    command = ["align-real", "--seed", "1", "5", "--output", str(tmp_path / "found.json")]
    assert main([*command, "--checkpoint", str(tmp_path / "kept")]) == 0
    found = TextAlignmentResults.load(tmp_path / "found.json")
    assert [(p.seed, p.method, p.step) for p in found.policies] == [
        (seed, "BoNBoN", step) for seed in (0, 1) for step in (1, 2)
    ]
    assert found.policies[1].found != found.policies[3].found
    assert capsys.readouterr().out.count("found.json: BoNBoN, win rate") == 2


def test_neither_kind_of_training_replaces_what_the_other_has_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = []
    monkeypatch.setattr(commands, "align_real_model", lambda output, **_: written.append(output))
    for options in ([], ["--all-parameters"], ["--all-parameters", "--output", "mine.json"]):
        main(["align-real", *options])
    assert [path.name for path in written] == [
        *("alignment.json", "alignment_all_parameters.json", "mine.json")
    ]
