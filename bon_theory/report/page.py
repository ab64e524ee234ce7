"""The page, from what it says to HTML."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import Any

import numpy as np

from bon_theory.report.chart import Chart, Line, draw
from bon_theory.report.contents import Contents, ScoreTrack

__all__ = ["decision", "render"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def render(contents: Contents) -> str:
    """One self-contained page."""
    charts = _charts(contents)
    drawn = {chart.key: draw(chart) for chart in charts}
    figures = "".join(_figure(chart, drawn[chart.key][0]) for chart in charts)
    places = {key: places for key, (_, places) in drawn.items()}
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(contents.title)}</title><style>{_file('report.css')}</style></head>"
    )
    body = (
        f"<body><header><h1>{escape(contents.title)}</h1></header><main>"
        f'<p class="decision">{escape(decision(contents))}</p>'
        f"{_peak(contents)}{_sliders(contents)}{figures}{_quality(contents)}{_examples(contents)}"
        f"{_reading(contents)}</main>"
        f'<script type="application/json" id="data">{_embedded(contents, places)}</script>'
        f"<script>{_file('report.js')}</script></body></html>"
    )
    return f"{head}\n{body}\n"


def decision(contents: Contents) -> str:
    """What to do, in one sentence with its interval."""
    choice, gain = contents.choice, contents.gain
    if choice is None or gain is None:
        band, n = contents.tracks[0].curve, contents.n
        judged = len(contents.tracks) > 1
        lack = "with fewer than four prompts" if judged else "without a second score"
        return (
            f"Best-of-{n[-1]} raises the score from {band.mean[0]:.4g} to {band.mean[-1]:.4g} "
            f"({contents.level:.0%} band {band.low[-1]:.4g} to {band.high[-1]:.4g}); {lack} "
            "nothing here says where more candidates begin to hurt."
        )
    setting = f"n = {choice.n}"
    if choice.temperature:
        setting += f" at temperature {choice.temperature:.3g}"
    interval = f"({contents.level:.0%} interval {gain.low:.4g} to {gain.high:.4g})"
    if gain.low > 0:
        effect = f"adds {gain.value:.4g} to the true score of one answer {interval}"
    elif gain.high < 0:
        effect = f"takes {-gain.value:.4g} from the true score of one answer {interval}"
    else:
        effect = (
            f"changes the true score of one answer by {gain.value:.4g} {interval}, which may be "
            "nothing"
        )
    return (
        f"Take {setting}: choosing so {effect}; no other single setting is better by more than "
        f"{choice.regret_high:.3g}."
    )


def _charts(contents: Contents) -> list[Chart]:
    n = contents.n.astype(float)
    charts = []
    for index, track in enumerate(contents.tracks):
        band = track.curve
        title = f"Mean {track.name} of best-of-n by n, with a band for the whole curve"
        line = Line(track.name, band.mean, band.low, band.high)
        charts.append(
            Chart(f"chart-{index}", title, n, [line], "candidates n", track.name, is_log=True)
        )
    gains = [_standard(track) for track in contents.tracks]
    if len(gains) > 1:
        title = "Gains of the score that selects and of the true score, as shares of their largest"
        lines = [Line(t.name, g) for t, g in zip(contents.tracks, gains, strict=True)]
        charts.append(
            Chart("chart-over", title, n, lines, "candidates n", "share of largest gain", True)
        )
    last = contents.tracks[-1]
    lines = [Line("best-of-n", last.curve.mean - last.curve.mean[0], x=contents.kl[0])]
    soft = zip(contents.temperatures[1:].tolist(), last.mean[1:], contents.kl[1:], strict=True)
    lines += [
        Line(f"temperature {heat:.3g}", mean - mean[0], x=kl, is_faint=True)
        for heat, mean, kl in soft
    ]
    title = (
        f"Gain in {last.name} over one answer by divergence from the model: best-of-n, and soft "
        f"best-of-n at each temperature in grey ({'; '.join(dict.fromkeys(contents.kl_labels))})"
    )
    label = "KL in nats"
    charts.append(Chart("chart-kl", title, contents.kl[0], lines, label, f"gain in {last.name}"))
    return charts


def _standard(track: ScoreTrack) -> np.ndarray:
    gain = track.curve.mean - track.curve.mean[0]
    largest = np.abs(gain).max()
    return gain / largest if largest > 0 else gain


def _figure(chart: Chart, svg: str) -> str:
    columns = [] if chart.lines[0].x is not None else [chart.x_label]
    values = [] if chart.lines[0].x is not None else [chart.x]
    for line in chart.lines:
        if line.x is not None:
            columns.append(f"{chart.x_label}, {line.name}")
            values.append(line.x)
        columns.append(line.name)
        values.append(line.y)
        if line.low is not None and line.high is not None:
            columns += [f"{line.name}, low", f"{line.name}, high"]
            values += [line.low, line.high]
    table = _table(chart.title, columns, np.stack(values, axis=1).tolist())
    return (
        f"<figure>{svg}<figcaption>{escape(chart.title)}.</figcaption>"
        f"<details><summary>The numbers</summary>{table}</details></figure>"
    )


def _table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    kinds = ["" if rows and isinstance(x, str) else ' class="number"' for x in (rows or [()])[0]]
    kinds += [""] * (len(columns) - len(kinds))
    named = zip(columns, kinds, strict=True)
    head = "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for name, kind in named)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{kind}>{escape(_shown(value))}</td>"
            for value, kind in zip(row, kinds, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and math.isnan(value):
        return "–"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _sliders(contents: Contents) -> str:
    def slider(key: str, label: str, size: int, start: int) -> str:
        return (
            f'<p><label for="{key}">{label}</label><input type="range" id="{key}" min="0" '
            f'max="{size - 1}" step="1" value="{start}"><output for="{key}" id="{key}-value">'
            "</output></p>"
        )

    choice, start_n, start_t = contents.choice, contents.n.size - 1, 0
    if choice is not None:
        start_n = int(np.flatnonzero(contents.n == choice.n)[0])
        start_t = int(np.flatnonzero(contents.temperatures == choice.temperature)[0])
    return (
        '<section id="try" hidden aria-labelledby="try-title"><h2 id="try-title">Try a setting</h2>'
        f"{slider('n', 'Candidates n', contents.n.size, start_n)}"
        f"{slider('temperature', 'Temperature', contents.temperatures.size, start_t)}"
        '<dl id="values" aria-live="polite"></dl></section>'
    )


def _peak(contents: Contents) -> str:
    peak = contents.peak
    if peak is None:
        return ""
    if not math.isfinite(peak.peak) or peak.peak == 0:
        text = "The true score does not turn down within the fit d(α − βd), d = √KL."
    else:
        text = (
            f"The fit d(α − βd), d = √KL, has α = {peak.alpha:.4g} and β = {peak.beta:.4g}; it "
            f"turns down at d = {peak.peak:.3g} ± {peak.peak_error:.2g} (one standard error), a KL "
            f"of {peak.peak**2:.3g} nats, with a gain of {peak.gain:.3g} ± {peak.gain_error:.2g}. "
            f"Largest deviation of the curve from it: {peak.residual:.2g}."
        )
    return f"<p>{escape(text)}</p>"


def _quality(contents: Contents) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in contents.notes)
    table = _table("The data", ("quantity", "value"), contents.quality)
    return f"<section><h2>The data</h2>{table}{f'<ul>{notes}</ul>' if notes else ''}</section>"


def _examples(contents: Contents) -> str:
    rows = [(example.prompt[:200], example.before, example.after) for example in contents.examples]
    columns = ("prompt", "one answer", f"best of {contents.n[-1]}")
    title = "Prompts whose score selection changes most"
    return f"<section><h2>{title}</h2>{_table(title, columns, rows)}</section>"


def _reading(contents: Contents) -> str:
    text = (
        "Means are over all subsets of n of a prompt's answers, exactly, and then over prompts; "
        f"intervals are over prompts at {contents.level:.0%}, and bands of curves for all n "
        "at once. The setting is chosen by one half of the prompts and judged by the other."
    )
    return f"<section><h2>How to read this</h2><p>{escape(text)}</p></section>"


def _embedded(contents: Contents, places: dict[str, list[list[float | None]]]) -> str:
    """Data for the script; no text of it can end the element."""

    def numbers(array: np.ndarray) -> Any:
        return [
            [None if math.isnan(x) else float(f"{x:.6g}") for x in row]
            for row in np.atleast_2d(array).tolist()
        ]

    document = {
        "n": contents.n.tolist(),
        "temperature": [float(f"{t:.4g}") for t in contents.temperatures.tolist()],
        "kl": numbers(contents.kl),
        "klLabels": contents.kl_labels,
        "winRate": numbers(contents.win_rate),
        "tracks": [
            {
                "name": t.name,
                "mean": numbers(t.mean),
                "low": numbers(t.low),
                "high": numbers(t.high),
            }
            for t in contents.tracks
        ],
        "places": places,
    }
    return json.dumps(document, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _file(name: str) -> str:
    return resources.files("bon_theory.report").joinpath(name).read_text(encoding="utf-8")
