"""The stages of the main job: what each runs, and what its result depends on."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from paper_repro.papers.catalogue import PAPERS, Paper, claims
from paper_repro.papers.claim import evaluate
from paper_repro.pipeline import payloads
from paper_repro.pipeline.payloads import ComputedClaims, FigureResult, Payload

if TYPE_CHECKING:
    from figures import FigureFiles

Profile = Literal["quick", "full"]
Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)``; a total of 0 is unknown."""


# With the former emitters of fused loops jaxlib 0.10 compiles in three quarters of the time, and
# what it makes is as fast. A program compiled in one piece takes three quarters again of what its
# parts take on several threads, which have no cores to themselves here. Other versions may not
# know these flags.
_FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
_XLA = {"XLA_FLAGS": _FLAGS} if metadata.version("jaxlib").startswith("0.10.") else {}
# As many stages run as there are cores: the threads of linear algebra would only wait for each
# other, and they wait busily (solving for the minimisers of BoNBoN took up to ten times as long).
SIMULATES = _XLA | {"OPENBLAS_NUM_THREADS": "1"}
# Compiled in four fifths of the time and slower where it counts little: good for what compiles
# as much as it runs. XLA makes programs for one thread where it is told of one core: a tenth less.
COMPILES = (
    SIMULATES
    | {name: f"{flags} --xla_backend_optimization_level=1" for name, flags in _XLA.items()}
    | {"NPROC": "1"}
)
# Seconds on one core, about; what is not here takes a few.
_WEIGHTS = {
    "claims/soft_best_of_n": 22.0,
    "claims/inference_time_reward_hacking": 10.0,
    "claims/bonbon_alignment": 20.0,
    "claims/reward_model_overoptimization": 14.0,
    "figures/choosing": 16.0,
    "figures/bonbon": 15.0,
    "figures/bounds": 17.0,
    "figures/hedging": 18.0,
    "figures/sequences": 12.0,
    "figures/families": 8.0,
    "figures/reward_frontier": 12.0,
}
# Claims and figures compile more than they run, but for these.
_RUN_AS_MUCH = ("figures/choosing", "figures/bonbon")


@dataclass(frozen=True)
class Product:
    """What a stage makes: a payload, and files in the output directory."""

    payload: Payload
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One step of the main job, done again only if something it depends on has changed.

    Attributes:
        name: "group" or "group/part"; what ``--only`` selects by.
        title: for people.
        module: entry point; its source, and what it imports of ours, are depended on.
        run: does the work, as ``run(output, progress)``.
        payload: class of what it hands on.
        config: JSON-able, depended on.
        needs: names of earlier stages whose results it reads.
        weight: seconds it takes, about: the heaviest are started first.
        settings: environment variables of the process that runs it.
        hasty: whether its programs are compiled without optimizations, in less than half of the
            time: good for what compiles more than it runs.
    """

    name: str
    title: str
    module: str
    run: Callable[[Path, Progress], Product]
    payload: type[Payload]
    config: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    weight: float = 4.0
    settings: Mapping[str, str] = field(default_factory=dict)
    hasty: bool = False


def stages(profile: Profile) -> tuple[Stage, ...]:
    """All stages, each after those it needs."""
    # Imported where stages are planned: a process that runs one imports what that one needs.
    import figures
    from paper_repro.pipeline import (
        bounds,
        enumerable_alignment,
        learned_reward,
        model_blocks,
        monte_carlo,
        real_answers,
        real_sequences,
        text_alignment,
    )

    papers = {paper.key: paper for paper in PAPERS}
    laws = monte_carlo.QUICK if profile == "quick" else monte_carlo.FULL
    sequences = real_sequences.QUICK if profile == "quick" else real_sequences.FULL
    aligned = text_alignment.QUICK if profile == "quick" else text_alignment.FULL
    blocks = model_blocks.QUICK if profile == "quick" else model_blocks.FULL
    learned = learned_reward.QUICK if profile == "quick" else learned_reward.FULL
    return (
        *(_claims_stage(paper) for paper in PAPERS),
        Stage(
            "checks",
            "Monte Carlo checks",
            "paper_repro.pipeline.monte_carlo",
            partial(_run_checks, partial(monte_carlo.run, laws)),
            payloads.MonteCarloResults,
            asdict(laws),
            weight=85.0,
            settings=COMPILES,
        ),
        Stage(
            "language-model",
            "Language model",
            "paper_repro.pipeline.real_sequences",
            partial(_run_experiment, real_sequences.run, real_sequences.results_path, sequences),
            payloads.SequenceResults,
            asdict(sequences),
            weight=170.0,
            settings=SIMULATES,
        ),
        Stage(
            "model-blocks",
            "Blocks of real sequences",
            "paper_repro.pipeline.model_blocks",
            partial(_run_experiment, model_blocks.run, model_blocks.results_path, blocks),
            ComputedClaims,
            asdict(blocks),
            needs=("language-model",),
            weight=50.0,
            settings=SIMULATES,
        ),
        Stage(
            "learned-reward",
            "Learned reward",
            "paper_repro.pipeline.learned_reward",
            partial(_run_experiment, learned_reward.run, learned_reward.results_path, learned),
            ComputedClaims,
            asdict(learned),
            needs=("language-model",),
            weight=25.0,
            settings=SIMULATES,
        ),
        Stage(
            "real-answers",
            "Real answers",
            "paper_repro.pipeline.real_answers",
            partial(
                _run_experiment, real_answers.run, real_answers.results_path, real_answers.QUICK
            ),
            payloads.RealAnswersResults,
            asdict(real_answers.QUICK) | {"pool": _digest(real_answers.real_pool.POOL)},
            weight=20.0,
            settings=SIMULATES,
        ),
        *(_figure_stage(name) for name in figures.ALL),
        Stage(
            "alignment",
            "Alignment of an enumerated model",
            "paper_repro.pipeline.enumerable_alignment",
            partial(
                _run_experiment,
                enumerable_alignment.run,
                enumerable_alignment.results_path,
                enumerable_alignment.QUICK,
            ),
            ComputedClaims,
            asdict(enumerable_alignment.QUICK),
            weight=20.0,
            settings=SIMULATES,
        ),
        Stage(
            "enumerated-model",
            "Selection from an enumerated model",
            "paper_repro.papers.soft_best_of_n.enumerated",
            partial(_run_claims, papers["soft_best_of_n"], "enumerated-model"),
            ComputedClaims,
            weight=14.0,
            settings=COMPILES,
            hasty=True,
        ),
        Stage(
            "text-alignment",
            "Alignment of the language model",
            "paper_repro.pipeline.text_alignment",
            partial(_run_experiment, text_alignment.run, text_alignment.results_path, aligned),
            ComputedClaims,
            asdict(aligned),
            needs=("language-model",),
            weight=55.0,
            settings=SIMULATES,
        ),
        Stage(
            "bounds",
            "Bounds beside the truth",
            "paper_repro.pipeline.bounds",
            partial(_run_bounds, bounds.run),
            payloads.BoundsResults,
            needs=("figures/bounds",),
            weight=0.1,
            settings=COMPILES,
        ),
        _results_figure_stage(
            "alignment",
            "alignment of an enumerated model",
            enumerable_alignment.results_path,
            "alignment",
        ),
        _results_figure_stage(
            "text_alignment",
            "alignment of the language model",
            text_alignment.results_path,
            "text-alignment",
        ),
        _results_figure_stage(
            "language_model", "language model", real_sequences.results_path, "language-model"
        ),
        _results_figure_stage(
            "block_selection", "block selection", model_blocks.results_path, "model-blocks"
        ),
        _results_figure_stage(
            "learned_reward", "learned reward", learned_reward.results_path, "learned-reward"
        ),
        _results_figure_stage(
            "real_answers", "real answers", real_answers.results_path, "real-answers"
        ),
    )


def _claims_stage(paper: Paper) -> Stage:
    return Stage(
        f"claims/{paper.key}",
        f"Claims: {paper.short_title}",
        paper.module,
        partial(_run_claims, paper, ""),
        ComputedClaims,
        weight=_WEIGHTS.get(f"claims/{paper.key}", 4.0),
        settings=COMPILES,
        hasty=True,
    )


def _run_claims(paper: Paper, stage: str, output: Path, progress: Progress) -> Product:
    found = [claim for claim in claims(paper) if claim.stage == stage]
    computed = []
    for done, claim in enumerate(found):
        progress(claim.id, done, len(found))
        computed.append(evaluate(claim))
    return Product(ComputedClaims(tuple(computed)))


def _run_checks(run: Callable[[Progress], Payload], output: Path, progress: Progress) -> Product:
    return Product(run(progress))


def _run_bounds(run: Callable[[Path], Payload], output: Path, progress: Progress) -> Product:
    return Product(run(output))


def _figure_stage(name: str) -> Stage:
    title = f"Figure: {name.replace('_', ' ')}"
    return Stage(
        f"figures/{name}",
        title,
        f"figures.{name}",
        partial(_run_figure, name),
        FigureResult,
        weight=_WEIGHTS.get(f"figures/{name}", 4.0),
        settings=COMPILES,
        hasty=f"figures/{name}" not in _RUN_AS_MUCH,
    )


def _run_figure(name: str, output: Path, progress: Progress) -> Product:
    import figures
    from figures.output import reporting

    with reporting(progress):
        return _figure_product(figures.make(name, output / "figures"))


def _run_experiment(
    run: Callable[[Any, Path, Progress], Payload],
    results_path: Callable[[Path], Path],
    config: Any,
    output: Path,
    progress: Progress,
) -> Product:
    """An experiment that saves its results beside the report, for a figure."""
    return Product(run(config, output, progress), (results_path(output),))


def _results_figure_stage(
    name: str, title: str, results_path: Callable[[Path], Path], needs: str
) -> Stage:
    return Stage(
        f"figures/{name}",
        f"Figure: {title}",
        f"figures.{name}",
        partial(_run_results_figure, name, results_path),
        FigureResult,
        needs=(needs,),
        weight=2.0,
        settings=SIMULATES,  # as what it needs, whose process is there
    )


def _run_results_figure(
    name: str, results_path: Callable[[Path], Path], output: Path, progress: Progress
) -> Product:
    # Imported here, since it brings in the language model's stack, which other figures do without.
    figure = importlib.import_module(f"figures.{name}")
    return _figure_product(figure.main(output / "figures", results_path(output)))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _figure_product(written: FigureFiles) -> Product:
    payload = FigureResult(written.name, written.caption, written.png.name, written.texts)
    return Product(payload, (written.pdf, written.png, written.npz, written.json))
