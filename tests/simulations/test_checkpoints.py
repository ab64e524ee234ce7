"""Checkpoints: of one configuration, whole, and never lost."""

import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simulations.draws.references import ContinuousReference, discrete_reference
from simulations.engine import checkpoint as checkpoints
from simulations.engine.accumulate import Schedule
from simulations.engine.simulate import simulate
from simulations.selection.races import ScoredRace
from simulations.selection.samplers import best_of_n, soft_best_of_n
from simulations.tools.files import write_atomically

THREE = discrete_reference([0.5, 0.3, 0.2], [0.0, 0.5, 1.0])


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    kept = Schedule(checkpoint=tmp_path / "run.npz")
    simulate(
        jax.random.key(1),
        soft_best_of_n(THREE, 5, 0.3),
        num_trials=500,
        schedule=kept,
    )
    for key, sampler in (
        (2, soft_best_of_n(THREE, 5, 0.3)),
        (1, soft_best_of_n(THREE, 6, 0.3)),
        (1, soft_best_of_n(THREE, 5, 0.31)),
        (1, best_of_n(THREE, 5)),
    ):
        with pytest.raises(ValueError, match=r"belongs to\n(.|\n)*but the run is\n"):
            simulate(jax.random.key(key), sampler, num_trials=500, schedule=kept)
    with pytest.raises(ValueError, match="num_trials must be at least the 500 that"):
        simulate(
            jax.random.key(1),
            soft_best_of_n(THREE, 5, 0.3),
            num_trials=499,
            schedule=kept,
        )


def test_a_checkpoint_of_another_law_of_many_outcomes_is_refused(tmp_path):
    """Long arrays are told apart by their contents, not by their shapes."""
    kept = Schedule(checkpoint=tmp_path / "run.npz")
    probs = np.full(12, 1 / 12)
    simulate(
        jax.random.key(1), best_of_n(discrete_reference(probs, np.arange(12.0)), 2), num_trials=300,
        schedule=kept,
    )  # fmt: skip
    probs[:2] = 0.5 / 12, 1.5 / 12
    other = best_of_n(discrete_reference(probs, np.arange(12.0)), 2)
    with pytest.raises(ValueError, match=r"belongs to\n(.|\n)*but the run is\n"):
        simulate(jax.random.key(1), other, num_trials=300, schedule=kept)


@pytest.mark.parametrize("change", [{"counts": np.ones(1, int)}, {"other": np.ones(3)}])
def test_a_checkpoint_of_other_arrays_is_refused(tmp_path, change):
    """Arrays of another shape might be stretched, and trials counted that never were."""
    kept = Schedule(checkpoint=tmp_path / "run.npz")
    file, sampler = tmp_path / "run.npz", best_of_n(THREE, 2)
    simulate(jax.random.key(1), sampler, num_trials=500, schedule=kept)
    identity, arrays = checkpoints.load(file)
    checkpoints.save(file, identity, {**arrays, **change})
    with pytest.raises(ValueError, match=r"must hold .*'counts': \(3,\).*, got .*delete it"):
        simulate(jax.random.key(1), sampler, num_trials=900, schedule=kept)


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    kept = Schedule(checkpoint=tmp_path / "run.npz")
    file, sampler = tmp_path / "run.npz", soft_best_of_n(THREE, 5, 0.3)
    simulate(jax.random.key(1), sampler, num_trials=500, schedule=kept)
    before = file.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"No space left on device; what was there before is int"):
            simulate(jax.random.key(1), sampler, num_trials=900, schedule=kept)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
    resumed = simulate(jax.random.key(1), sampler, num_trials=900, schedule=kept)
    whole = simulate(jax.random.key(1), sampler, num_trials=900)
    np.testing.assert_array_equal(resumed.counts, whole.counts)


def power(exponent: float) -> Callable[[jax.Array, jax.Array], jax.Array]:
    return lambda rank, survival: rank ** jnp.float32(exponent)


def test_functions_without_a_name_are_told_by_their_values(tmp_path):
    """Both quantile functions are called ``power.<locals>.<lambda>``."""
    kept = Schedule(checkpoint=tmp_path / "run.npz")

    def run(exponent: float) -> int:
        race = best_of_n(ContinuousReference(power(exponent), 1.0), 3)
        return simulate(jax.random.key(1), race, num_trials=500, schedule=kept).num_trials

    assert run(2.0) == run(2.0) == 500
    with pytest.raises(ValueError, match=r"belongs to\n(.|\n)*but the run is\n") as refused:
        run(2.001)
    names = [line for line in str(refused.value).splitlines() if "ContinuousReference" in line]
    assert len(names) == 2
    assert names[0] != names[1]


def test_a_score_without_a_name_is_refused_with_a_checkpoint_only(tmp_path):
    kept = Schedule(checkpoint=tmp_path / "run.npz")
    soft = soft_best_of_n(THREE, 3, 0.5)
    race = ScoredRace(soft.reference, soft.count, soft.parameter, lambda *given: soft.score(*given))
    assert simulate(jax.random.key(1), race, num_trials=300).num_trials == 300
    with pytest.raises(ValueError, match=r"told by their names, got .*<lambda>: define it by def"):
        simulate(
            jax.random.key(1),
            race,
            num_trials=300,
            schedule=kept,
        )


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1],
        lambda whole: whole[:60] + bytes(40) + whole[100:],
        lambda whole: b"not a checkpoint at all",
    ],
    ids=["empty", "half", "one byte short", "a hole", "another kind"],
)
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path, damage):
    kept = Schedule(checkpoint=tmp_path / "run.npz")
    file = tmp_path / "run.npz"
    checkpoints.save(file, {"run": 1}, {"counts": np.arange(1000)})
    assert checkpoints.load(file, {"run": 1})[1]["counts"].sum() == 499500
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=r"run\.npz must be a checkpoint .* delete it to start"):
        simulate(
            jax.random.key(1),
            soft_best_of_n(THREE, 5, 0.3),
            num_trials=500,
            schedule=kept,
        )


def test_a_file_that_may_not_grow_leaves_the_previous_one(tmp_path):
    """No stand-in: the operating system itself refuses the bytes."""
    file: Path = tmp_path / "run.npz"
    checkpoints.save(file, {"run": 1}, {"counts": np.arange(3)})
    before, limits = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    more = {"counts": np.random.default_rng(0).integers(0, 2**60, 5000)}
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*; what was there before is intact"):
            checkpoints.save(file, {"run": 1}, more)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    checkpoints.save(path, {"run": 1}, {"x": np.arange(3)})

    def fail(file) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    identity, arrays = checkpoints.load(path, {"run": 1})
    assert identity == {"run": 1}
    np.testing.assert_array_equal(arrays["x"], np.arange(3))
    assert os.listdir(tmp_path) == ["file.npz"]


def test_the_identity_survives_json() -> None:
    assert checkpoints.file_name("a", {"n": (1, 2), "m": 3}) == checkpoints.file_name(
        "a", {"m": 3, "n": [1, 2]}
    )
    assert checkpoints.file_name("a", {"n": 1}) != checkpoints.file_name("a", {"n": 2})


def test_the_reserved_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="reserved name 'identity'"):
        checkpoints.save(tmp_path / "x.npz", {}, {"identity": np.arange(2)})
