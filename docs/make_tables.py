"""Write measured numbers into README.md and pages of docs/, from benchmarks/results.

python docs/make_tables.py

Numbers stand between two HTML comments and come from the committed results alone; what has not been
measured says so.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def table(results: Path = RESULTS) -> str:
    """The Markdown table of everything that has been measured."""
    makers = (
        first_call_rows,
        exact_rows,
        large_rows,
        quadrature_rows,
        tuning_rows,
        sequence_rows,
        training_rows,
        sampling_rows,
        enumeration_rows,
        monte_carlo_rows,
        accelerator_rows,
    )
    rows = [row for make in makers for row in make(results)]
    lines = ["| What | Measured |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)]
    where = [f"{machine}." for machine in sorted(machines(results))]
    return "\n".join([*lines, "", " ".join([*where, "Rerun with `make bench`."])])


def best_peers(row: dict[str, dict[str, float]]) -> list[float]:
    """Draws per second of NumPy, JAX and numba, where measured."""
    return [row[peer]["million_per_second"] for peer in ("numpy", "jax", "numba") if peer in row]


def load(results: Path, name: str) -> dict[str, Any] | None:
    """One committed result, or None."""
    path = results / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def machines(results: Path) -> set[str]:
    """Where the results of the table come from, in words."""
    return {
        origin(json.loads(path.read_text(encoding="utf-8")))
        for path in results.glob("*.json")
        # Which has a table of its own; whose rows name the card.
        if path.stem not in ("checkpoints", "accelerator")
    }


def origin(document: dict[str, Any]) -> str:
    """Machine, versions and day of a result."""
    machine, versions = document["machine"], document["versions"]
    return (
        f"{machine['cpu']}, {machine.get('vector_units', 'AVX-512')}, "
        f"{machine['cores']} cores, JAX {versions['jax']}, "
        f"Python {versions['python'].rsplit('.', 1)[0]}, {document['date']}"
    )


def first_call_rows(results: Path) -> Iterator[tuple[str, str]]:
    """First calls in processes of their own, and ragged laws."""
    what = "first calls, processor seconds"
    document = load(results, "first_calls")
    if document is None:
        yield what, "not measured yet"
        return
    calls = dict(document["results"])
    ragged = calls.pop("ragged laws")
    yield what, "; ".join(f"{name} {row['cpu_s']:.1f}" for name, row in calls.items())
    yield (
        f"soft best-of-n and its KL of {ragged['laws']:,} laws of 1 to 512 outcomes, one by one",
        f"{ragged['compilations']} compilations, {ragged['cpu_s']:.0f} processor seconds in all",
    )


def exact_rows(results: Path) -> Iterator[tuple[str, str]]:
    """Exact soft best-of-n at many (n, λ), beside a simulation."""
    what = "exact soft best-of-n at 10,000 (n, λ), K = 256, float64"
    document = load(results, "exact_soft_best_of_n")
    if document is None:
        yield what, "not measured yet"
        return
    measured = document["results"]
    what = what.replace("10,000", f"{measured['num_pairs']:,}")
    for kind, name in (("integer_n", "integer n"), ("real_n", "real n")):
        fastest = min(measured["exact"][kind].values(), key=lambda each: each["seconds"])
        first = "" if kind == "real_n" else f" (first call {fastest['first_call_s']:.1f} s)"
        yield f"{what}, {name}", f"{fastest['seconds']:.2f} s{first}"
    certificates = [
        each["largest_certificate"] for kind in measured["exact"].values() for each in kind.values()
    ]
    yield "largest certificate \\|ΣP − 1\\| among them", f"{max(certificates):.0e}"
    simulated = measured["simulation"]
    ratio = float(f"{measured['ratio']:.1g}")  # an extrapolation has one digit to offer
    yield (
        f"simulation in NumPy to {simulated['accuracy']:g} in total variation, one (n, λ)",
        f"{simulated['seconds_per_pair_extrapolated']:,.0f} s (extrapolated), "
        f"about {ratio:,.0f} times the exact law",
    )


def large_rows(results: Path) -> Iterator[tuple[str, str]]:
    """A million and ten million outcomes."""
    document = load(results, "large_support")
    if document is None:
        yield "a million outcomes, soft best-of-n, float64", "not measured yet"
        return
    for name, what in (
        ("soft_best_of_n_float64", "soft best-of-n, float64"),
        ("best_of_n_float32", "best-of-64, float32"),
    ):
        case = document["results"][name]
        value = f"{case['seconds']:.1f} s, peak memory {case['peak_memory_gib']:.2f} GiB"
        if "kl_error" in case:
            value += f", KL off by {case['kl_error']:.0e}, mass by {case['mass_error']:.0e}"
        yield f"{case['num_outcomes']:,} outcomes, {what}", value


def training_rows(results: Path) -> Iterator[tuple[str, str]]:
    """Training beside PyTorch."""
    what = "training, tokens/s on 2 cores, float32, AdamW"
    document = load(results, "training")
    if document is None:
        yield what, "not measured yet"
        return
    for name, row in document["results"]["measured"].items():
        size = document["results"]["sizes"][name]
        tokens = {side: f"{row[side]['tokens_per_second']:,.0f}" for side in ("ours", "theirs")}
        memory = {side: f"{row[side]['peak_memory_gib']:.1f}" for side in ("ours", "theirs")}
        yield (
            f"{what}: Llama of {row['ours']['parameters']:,.0f} parameters, {size['batch']} × "
            f"{size['window']} tokens",
            f"{tokens['ours']}; transformers {tokens['theirs']}; peak memory {memory['ours']} GiB "
            f"against {memory['theirs']}; compilation {row['ours']['compile_cpu_s']:.1f} processor "
            "seconds",
        )


def sampling_rows(results: Path) -> Iterator[tuple[str, str]]:
    """Whole calls that draw tokens, beside ``transformers``."""
    if document := load(results, "sampling"):
        for row in (document["results"][name] for name in ("small", "medium", "large")):
            wall = {side: row["costs"][side]["wall_s"] for side in ("ours", "transformers")}
            times = row["times_faster"]
            yield (
                f"sampling, {row['rows']} × {row['tokens']} tokens of {row['parameters']:,} "
                "parameters, whole call",
                f"{wall['ours']:.2f} s; transformers {wall['transformers']:.2f} s; {times['wall']} "
                f"times by wall time, {times['processor']} by processor time",
            )


def enumeration_rows(results: Path) -> Iterator[tuple[str, str]]:
    """Every sequence of a small language model, and the rules on them."""
    if document := load(results, "enumeration"):
        found = document["results"]
        seconds = found["processor_s"]
        slowest = max(seconds, key=seconds.get)
        yield (
            f"law of all {found['num_sequences']:,} sequences of a small transformer, and "
            f"{len(seconds) - 1} selections on it, processor seconds",
            f"{found['total_processor_s']:.0f} in all; most for {slowest}: {seconds[slowest]:.1f}",
        )


def sequence_rows(results: Path) -> Iterator[tuple[str, str]]:
    """Whole sequences and blocks, at the slowest (n, λ)."""
    what = "soft best-of-n over sequences of 512 symbols out of 16, any block length, per (n, λ)"
    document = load(results, "long_sequences")
    if document is None:
        yield what, "not measured yet"
        return
    rows = document["results"]["rows"]

    def slowest(kind: str, fractional: bool) -> str:
        chosen = (r for r in rows if r["reference"] == kind and (r["n"] < 2) == fractional)
        return f"{max(row['seconds'] for row in chosen):.2f} s"

    yield (
        f"{what} at most",
        ", ".join(
            f"{kind} {slowest(kind, False)} (n = 1.5: {slowest(kind, True)})"
            for kind in ("independent", "markov")
        ),
    )


def quadrature_rows(results: Path) -> Iterator[tuple[str, str]]:
    """Continuous rewards against SciPy and quadax, per value."""
    document = load(results, "against_quadrature")
    if document is None:
        yield "continuous rewards against general quadrature", "not measured yet"
        return
    titles = {
        "best_of_n_kl": "KL of best-of-n, tie-free",
        "expected_best_of_normal_rewards": "expected best of n normal rewards",
        "soft_best_of_n_kl": "KL of soft best-of-n, uniform reward",
    }
    for key, title in titles.items():
        rows = document["results"][key]
        values = [
            f"{method} {1e6 * row['seconds_per_value']:,.0f} µs, "
            f"error {row['largest_relative_error']:.0e}"
            for method, row in rows.items()
            if method != "num_values"
        ]
        yield f"{title}, per value", "; ".join(values)


def tuning_rows(results: Path) -> Iterator[tuple[str, str]]:
    """Budgets per prompt against SciPy's root finders."""
    document = load(results, "tuning")
    if document is None:
        yield "n and temperature for a KL budget, per prompt", "not measured yet"
        return
    for key, title in (("n", "n of best-of-n"), ("temperature", "temperature of soft best-of-16")):
        values = [
            f"{method} {1e6 * row['seconds_per_prompt']:,.0f} µs"
            for method, row in document["results"][key].items()
        ]
        yield f"{title} for a KL budget, K = 64, per prompt", "; ".join(values)


def monte_carlo_rows(results: Path) -> Iterator[tuple[str, str]]:
    """Best-of-16 in draws per second beside other programs; all n, memory, processes."""
    document = load(results, "monte_carlo")
    if document is None:
        yield "simulated candidate draws per second", "not measured yet"
        return
    cores = document["machine"]["cores"]
    for work, methods in document["results"]["rates"].items():
        values = [f"{name} {row['million_per_second']:,.0f} M" for name, row in methods.items()]
        yield f"best-of-16, {work}: draws/s on {cores} cores", "; ".join(values)
    if narrow := document["results"].get("rates_on_avx2"):
        factors = (
            f"{work} {row['ours']['million_per_second'] / max(best_peers(row)):.1f}"
            for work, row in narrow.items()
        )
        yield "the same with AVX2 alone, over the best of NumPy, JAX and numba", "; ".join(factors)
    ratios = (f"{work} {row['ratio']:.1f}" for work, row in document["results"]["every_n"].items())
    yield "simulations of all n to 1024 in one pass, over n = 1024 alone", "; ".join(ratios)
    memory = document["results"]["memory"]
    yield (
        "memory of 10⁹ draws",
        f"{memory['over_interpreter_mb']:.0f} MB over the interpreter, {memory['over_jax_mb']:.0f} "
        "MB over JAX once imported",
    )
    clocks = (
        f"{row['ratio']:.2f} times by {clock} time (two that share nothing: "
        f"{row['ratio_of_two_apart']:.2f})"
        for clock, row in document["results"]["processes"].items()
    )
    yield "two processes over one, each on one core", "; ".join(clocks)


def accelerator_rows(results: Path) -> Iterator[tuple[str, str]]:
    """The engine, exact laws and language models on one card."""
    if document := load(results, "accelerator"):
        found = document["results"]
        card = found["device"]["kind"]

        def rate(row: dict[str, float], method: str) -> str:
            return f"{row[method] / 1e3:.0f}" if method in row else "not installed"

        if rates := found.get("million_draws_per_second"):  # a part may have failed
            how = "with loops on the card, " if "engine_compiler_options" in found else ""
            yield (
                f"{card}: simulation, billion draws per second, {how}ours (PyTorch, CuPy)",
                "; ".join(
                    f"{name} {rate(row, 'ours')} ({rate(row, 'torch')}, {rate(row, 'cupy')})"
                    for name, row in rates.items()
                ),
            )
        if pairs := found.get("exact_pairs"):
            yield (
                f"{card}: {pairs['num_pairs']:,} exact laws of soft best-of-n, K = 256, float64",
                f"{1e3 * pairs['seconds']:.0f} ms, off the processor's by at most "
                f"{pairs['largest_difference_from_processor']:.0e} nats",
            )
        models = found.get("models", {})
        for name in ("SmolLM2-135M", "Pythia-1.4b"):
            if not models.get(name, {}).keys() >= {"ours", "transformers"}:
                continue
            row, peer = models[name]["ours"], models[name]["transformers"]
            yield (
                f"{card}: {name}, bfloat16, tokens per second, ours (transformers)",
                f"sampled {row['sampled_per_s']:,.0f} ({peer['sampled_per_s']:,.0f}), "
                f"trained on {row['trained_on_per_s']:,.0f} ({peer['trained_on_per_s']:,.0f}), "
                f"{row['share_of_products_training']:.0%} of the matrix throughput",
            )


def logits_table(results: Path = RESULTS) -> str:
    """The Markdown table of how far logits of checkpoints are from those of transformers."""
    names = {
        "gpt2": "GPT-2, tied head, learned positions, biases, GELU by tanh",
        "gpt_neox": "GPT-NeoX, parallel residual, a quarter of a head rotated, exact GELU, sharded",
        "gpt_neox_serial": "GPT-NeoX, serial, half rotated, no attention biases",
        "llama": "Llama, two queries share a key, tied head",
        "llama_biased": "Llama, biases everywhere, heads wider than D/H, saved in bfloat16",
        "qwen2": "Qwen2, biased queries, keys and values",
        "gguf_llama": "Llama as GGUF: Q8_0, Q4_1, F16, F32",
        "gguf_qwen2": "Qwen2 as GGUF: the same",
        "smollm2": "SmolLM2-135M-Instruct as GGUF, five conversations",
    }
    document = load(results, "checkpoints")
    found = {} if document is None else document["results"]
    rows = found.get("tiny", {}) | {k: row for k, row in found.items() if k == "smollm2"}
    passes = ("whole", "left-padded", "decoded")
    lines = ["| Checkpoint | At once | Left-padded | Prefill, then token by token | Range |"]
    lines.append("|---|---|---|---|---|")
    for key, name in names.items():
        row = rows.get(key, {})
        cells = [f"{row[each]:.0e}" if each in row else "not measured yet" for each in passes]
        cells.append(f"{row['range']:.0f}" if "range" in row else "not measured yet")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    if document is not None and "smollm2" in found:
        lines += ["", f"{loading(found['smollm2'])} {origin(document)}."]
    return "\n".join(lines)


def loading(row: dict[str, float]) -> str:
    """What it takes to load SmolLM2."""
    return (
        f"Loading SmolLM2 takes {row['gguf_cpu_s']:.1f} processor seconds from its GGUF file, "
        f"{row['safetensors_cpu_s']:.1f} from what that was converted to; the peak of memory is "
        f"{row['peak_memory_gib']:.1f} GiB, of which the parameters are half a GiB."
    )


def filled(page: str, content: str) -> str:
    """The page with the content between its two comments."""
    pattern = re.compile(f"{BEGIN}.*?{END}", re.S)
    if len(pattern.findall(page)) != 1:
        raise ValueError(f"a page must contain {BEGIN} and {END} once: put them in")
    return pattern.sub(lambda _: f"{BEGIN}\n{content}\n{END}", page)


PAGES: dict[Path, Callable[[], str]] = {
    ROOT / "README.md": table,
    ROOT / "docs" / "performance.md": table,
    ROOT / "docs" / "checkpoints.md": logits_table,
}
"""What stands between the comments of each page."""


if __name__ == "__main__":
    for page, content in PAGES.items():
        page.write_text(filled(page.read_text(encoding="utf-8"), content()), encoding="utf-8")
