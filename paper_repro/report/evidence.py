"""The parts of the report beside the claims: figures, Monte Carlo checks, language model."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path

from paper_repro.pipeline.payloads import (
    BoundsResults,
    FigureResult,
    MonteCarloResults,
    PredictionTable,
    SampleTexts,
    SequenceResults,
)
from paper_repro.report.markup import Markup, element, escape, join, table
from simulations.statistics.checks import Check


def figures(payloads: Iterable[FigureResult], directory: Path) -> Markup:
    """Each figure with its caption, the picture inside the page."""
    return join(_figure(payload, directory / payload.png) for payload in payloads)


def _figure(payload: FigureResult, png: Path) -> Markup:
    encoded = base64.b64encode(png.read_bytes()).decode()
    name = payload.name
    source = f"data:image/png;base64,{encoded}"
    image = element("img", src=source, alt=name.replace("_", " "))
    files = element("code", escape(f"figures/{name}.{{pdf,png,npz,json}}"))
    caption = element("figcaption", escape(payload.caption + " ") + files)
    return element("figure", image + caption, id=f"figure-{name}")


def bounds(payload: BoundsResults) -> Markup:
    """Each inequality beside the truth: how tight, where tightest, whose."""
    rows = payload.rows
    what = (
        f"{len(rows)} published and derived inequalities, none of which computes what it bounds, "
        f"on {payload.num_problems:,} random problems with 5 outcomes, those on rank policies "
        f"with 64 as well. Slack is the distance to the exact value over the larger of the two: 0 "
        f"is tight, 1 is another order of magnitude or vacuous."
    )
    cells = [
        [
            element("code", escape(row.name)),
            escape({"upper": "≥ ", "lower": "≤ "}[row.side] + row.quantity),
            escape(row.source),
            escape(row.tightest),
            escape(" / ".join(f"{slack:.2g}" for slack in row.slack)),
            escape(f"{row.violations:,}"),
        ]
        for row in rows
    ]
    heads = ["Bound", "On", "Source", "Tightest at", "Median slack", "Violations"]
    return join(
        [
            element("p", escape(what)),
            _verdict_line("Violated", payload.violated),
            _unfold(f"All {len(rows)} bounds", table(heads, cells, numbers=2)),
        ]
    )


def monte_carlo(payload: MonteCarloResults) -> Markup:
    """What was simulated, at what risk of a false alarm, with what proof of power."""
    checks, planted = payload.checks, payload.planted
    what = (
        f"Each closed form that a claim uses is compared with the process it describes: draw "
        f"candidates, score, select, break ties uniformly; {payload.trials:,} selections. The "
        f"{len(checks)} checks are one family: if everything is right, the chance that any of "
        f"them fails is at most {payload.false_alarm:g}, each being rejected at a p-value of "
        f"{payload.threshold:.2e} or less (Bonferroni). Checks of laws, distribution functions "
        f"and bounded means hold at any sample size; those of unbounded means are z-tests."
    )
    power = (
        f"Power: {len(planted)} wrong theories were planted (n replaced by n+1, a temperature or a "
        f"strength off by 2 %, and the like). {len(planted) - len(payload.missed)} of them were "
        f"rejected by the same samples at the same threshold."
    )
    return join(
        [
            element("p", escape(what)),
            element("p", escape(power)),
            _verdict_line("Rejected", payload.rejected),
            _verdict_line("Planted errors missed", payload.missed),
            _unfold(f"All {len(checks)} checks", _check_table(checks, payload.threshold)),
            _unfold(f"All {len(planted)} planted errors", _check_table(planted, payload.threshold)),
        ]
    )


def language_model(payload: SequenceResults) -> Markup:
    """The claim on real sequences, its evidence, and some of the text."""
    model = (
        f"A decoder of {payload.num_parameters:,} parameters, trained for "
        f"{payload.num_steps} steps on {payload.corpus_bytes:,} bytes of English that come "
        f"with Python ({payload.validation_loss:.3f} nats per symbol on held-out text), draws "
        f"responses to held-out prompts ({payload.mean_length:.1f} symbols on average). Two "
        f"rewards score them. The exact law predicts, from the rewards of one pool of samples, "
        f"what selecting among other samples gives."
    )
    claim = (
        f"Claim: selection does what the exact law predicts. {payload.num_checks} means are "
        f"checked by Bernstein's bound as one family at false-alarm rate "
        f"{payload.false_alarm:g} (rejected at p ≤ {payload.threshold:.2e}): "
        f"{len(payload.rejected)} rejected; the largest distance is "
        f"{payload.largest_z:.2f} standard errors. Power: of the same checks against the "
        f"prediction for n+1, a planted error, {payload.planted_rejected} of "
        f"{payload.num_planted} are rejected; at large n the two predictions hardly differ."
    )
    return join(
        [
            element("p", escape(model)),
            element("p", escape(claim)),
            _verdict_line("Rejected", payload.rejected),
            _verdict_line("Planted errors missed at n ≤ 2", payload.unproved),
            *(_prediction(rows) for rows in _by_quantity(payload.tables)),
            element("h3", escape("Samples")),
            *(_sample(sample) for sample in payload.samples),
        ]
    )


def _verdict_line(what: str, names: tuple[str, ...]) -> Markup:
    word = ", ".join(names) or "none"
    return element("p", escape(f"{what}: {word}."), class_="failed" if names else "passed")


def _unfold(title: str, content: Markup) -> Markup:
    return element("details", element("summary", escape(title)) + content)


def _check_table(checks: Iterable[Check], threshold: float) -> Markup:
    rows = [
        [
            escape(check.name),
            escape(f"{check.num_trials:,}"),
            escape(f"{check.statistic:.4g}"),
            escape(f"{check.p_value:.3g}"),
            escape("rejected" if check.p_value <= threshold else "not rejected"),
        ]
        for check in checks
    ]
    return table(["Check", "Selections", "Statistic", "p-value", ""], rows, numbers=4)


def _by_quantity(tables: Iterable[PredictionTable]) -> list[list[PredictionTable]]:
    groups: dict[tuple[str, str], list[PredictionTable]] = {}
    for entry in tables:
        groups.setdefault((entry.reward, entry.quantity), []).append(entry)
    return list(groups.values())


def _prediction(rows: list[PredictionTable]) -> Markup:
    """Predicted over measured ± standard error, a row per temperature and a column per n."""
    first = rows[0]
    heads = ["λ", *(f"n = {n}" for n in first.numbers)]
    cells = [
        [
            escape(f"{row.temperature:g}"),
            *(
                element("div", escape(f"{predicted:.4g}"))
                + element("div", escape(f"{measured:.4g} ± {error:.2g}"))
                for predicted, measured, error in zip(
                    row.predicted, row.measured, row.error, strict=True
                )
            ),
        ]
        for row in rows
    ]
    title = f"{first.quantity.capitalize()} when selecting by {first.reward}"
    note = "Predicted; below, measured ± standard error of the difference. Means over prompts."
    return join(
        [
            element("h3", escape(title)),
            element("p", escape(note), class_="muted"),
            table(heads, cells, numbers=len(heads) - 1),
        ]
    )


def _sample(sample: SampleTexts) -> Markup:
    texts = {
        "sample": sample.sample,
        "most known words": sample.most_known_words,
        "highest trigram likelihood": sample.highest_trigram_likelihood,
    }
    prompt = escape(sample.prompt)
    lines = [
        element("p", element("small", escape(f"{name}: ")) + prompt + element("b", escape(text)))
        for name, text in texts.items()
    ]
    return element("blockquote", join(lines))
