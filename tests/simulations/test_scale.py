"""The same counts on any devices and processes, and after a kill."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import numpy as np
import pytest

from simulations.draws.references import discrete_reference, uniform_reward
from simulations.engine import accumulate
from simulations.engine import checkpoint as checkpoints
from simulations.engine.accumulate import Schedule
from simulations.engine.simulate import Simulation, simulate
from simulations.selection.samplers import best_of_n, soft_best_of_n, win_rate_optimal

ROOT = Path(__file__).parents[2]
THREE = discrete_reference([0.5, 0.3, 0.2], [0.0, 0.5, 1.0])
# 20,011 trials in chunks of 768: no mesh of this file divides them.
RUNS = """
import dataclasses, json, jax
from simulations.engine.accumulate import Schedule
from simulations.engine.simulate import simulate
from simulations.draws.references import discrete_reference, uniform_reward
from simulations.selection.samplers import soft_best_of_n, win_rate_optimal
three = discrete_reference([0.5, 0.3, 0.2], [0.0, 0.5, 1.0])
for sampler in (soft_best_of_n(three, 5, 0.3), win_rate_optimal(uniform_reward(4), 4.0)):
    out = simulate(jax.random.key(3), sampler, num_trials=20_011, schedule=Schedule(chunk_size=700))
    print(json.dumps([out.counts.tolist(), *dataclasses.astuple(out.reward)]))
"""


# More trials than int32 has numbers, by devices that might do them all in one step.
MANY = """
import dataclasses, jax, jax.numpy as jnp
from simulations.engine.accumulate import Schedule, accumulate
from simulations.tools.pytree import pytree

@pytree(data_fields=[], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class Trials:
    num_counts = typical_draws = numbers_per_trial = 1

    def moments_shape(self, num_trials):
        return 3, 0, 1

    def __call__(self, key, trials, valid):
        return jnp.sum(valid, dtype=jnp.int32)[None], jnp.zeros((3, 0, 1), jnp.float32)

schedule = Schedule(chunk_size=2**23)
print(accumulate(jax.random.key(3), Trials(), num_trials=2**32 - 1, schedule=schedule).counts)
"""


def start(program: str, **environment: str) -> subprocess.Popen[str]:
    settings = {"XLA_FLAGS": "", "PYTHONUNBUFFERED": "1", **environment}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, **settings},
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def assert_same_as_here(process: subprocess.Popen[str], runs: list[Simulation]) -> None:
    """Counts to the last trial, moments up to float32 rounding within a tile."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("[[")]
    for (counts, mean, std_error, num_trials), run in zip(rows, runs, strict=True):
        assert counts == run.counts.tolist()
        assert num_trials == run.num_trials == 20_011
        assert mean == pytest.approx(run.reward.mean, rel=1e-6)
        assert std_error == pytest.approx(run.reward.std_error, rel=1e-6)


def runs_here() -> list[Simulation]:
    samplers = soft_best_of_n(THREE, 5, 0.3), win_rate_optimal(uniform_reward(4), 4.0)
    return [
        simulate(jax.random.key(3), sampler, num_trials=20_011, schedule=Schedule(chunk_size=700))
        for sampler in samplers
    ]


def test_eight_devices_give_the_same_result():
    """All of them, three, and four in a square."""
    meshes = """
import numpy as np
from simulations.engine import accumulate
# Several steps, of which two are under way.
accumulate._ON_PROCESSOR = accumulate._ON_PROCESSOR._replace(draws_in_step=2**12)
for devices in (jax.devices()[:3], np.reshape(jax.devices()[:4], (2, 2))):
    mesh = jax.sharding.Mesh(devices, ("a", "b")[: np.ndim(devices)])
    plan = Schedule(chunk_size=700, mesh=mesh)
    out = simulate(jax.random.key(3), sampler, num_trials=20_011, schedule=plan)
    print(json.dumps([out.counts.tolist(), *dataclasses.astuple(out.reward)]))
"""
    process = start(RUNS + meshes, XLA_FLAGS="--xla_force_host_platform_device_count=8")
    assert jax.device_count() == 1
    soft, optimal = runs_here()
    assert_same_as_here(process, [soft, optimal, optimal, optimal])


@pytest.mark.slow
def test_two_processes_give_the_same_result(tmp_path):
    """Both of them; the first one's checkpoint is the second one's too."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    initialize = """
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize("{}", num_processes=2, process_id={})
"""
    share = """
from pathlib import Path
file = Path({!r}) / f"{{jax.process_index()}}.npz"
half = simulate(jax.random.key(3), sampler, num_trials=10_000, schedule=Schedule(checkpoint=file))
out = simulate(jax.random.key(3), sampler, num_trials=20_011, schedule=Schedule(checkpoint=file))
print(json.dumps([out.counts.tolist(), *dataclasses.astuple(out.reward)]))
assert file.exists() == (jax.process_index() == 0)
"""
    processes = [
        start(initialize.format(address, index) + RUNS + share.format(str(tmp_path)))
        for index in range(2)
    ]
    soft, optimal = runs_here()
    try:
        for process in processes:
            assert_same_as_here(process, [soft, optimal, optimal])
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_a_killed_run_loses_nothing_and_counts_nothing_twice(tmp_path):
    file = tmp_path / "run.npz"
    process = start(f"""
        import jax, pathlib
        from simulations.engine.accumulate import Schedule
        from simulations.engine.simulate import simulate
        from simulations.draws.references import uniform_reward
        from simulations.selection.samplers import best_of_n
        simulate(
            jax.random.key(5), best_of_n(uniform_reward(), 7), num_trials=50_000_000,
            schedule=Schedule(
                chunk_size=256, checkpoint=pathlib.Path({str(file)!r}), checkpoint_every=0.0,
                progress=lambda done, total: print("done", done),
            ),
        )
    """)
    assert process.stdout is not None
    for _ in range(5):
        assert process.stdout.readline().startswith("done")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = int(checkpoints.load(file)[1]["num_trials"])
    assert 5 * 65_536 <= done < 50_000_000

    sampler, total = best_of_n(uniform_reward(), 7), done + 12_345
    resumed = simulate(
        jax.random.key(5), sampler, num_trials=total, schedule=Schedule(checkpoint=file)
    )
    whole = simulate(jax.random.key(5), sampler, num_trials=total)
    np.testing.assert_array_equal(resumed.counts, whole.counts)
    assert resumed.reward.num_samples == whole.reward.num_samples == total
    assert resumed.reward.mean == pytest.approx(whole.reward.mean, rel=1e-6)
    assert resumed.reward.std_error == pytest.approx(whole.reward.std_error, rel=1e-5)
    # And what is finished answers at once, without a step.
    again = simulate(
        jax.random.key(5),
        sampler,
        num_trials=total,
        schedule=Schedule(
            checkpoint=file, progress=lambda done, total: pytest.fail("a step was made")
        ),
    )
    assert again.reward == resumed.reward


def test_progress_reaches_the_end():
    seen: list[tuple[int, int]] = []
    simulate(
        jax.random.key(1),
        soft_best_of_n(THREE, 5, 0.3),
        num_trials=270_000,
        schedule=Schedule(chunk_size=256, progress=lambda done, total: seen.append((done, total))),
    )
    assert seen == [(65_536 * k, 270_000) for k in range(1, 5)] + [(270_000, 270_000)]


def test_steps_of_many_candidates_are_short(monkeypatch):
    """Nothing can interrupt a step, so it has few trials where trials have many candidates."""
    short = accumulate._ON_PROCESSOR._replace(draws_in_step=2**13)
    monkeypatch.setattr(accumulate, "_ON_PROCESSOR", short)
    seen: list[int] = []
    simulate(
        jax.random.key(1),
        soft_best_of_n(THREE, 16, 0.3),
        num_trials=1500,
        schedule=Schedule(chunk_size=256, progress=lambda done, _: seen.append(done)),
    )
    assert seen == [512, 1024, 1500]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_its_progress_stops_has_kept_what_was_told(error, tmp_path, monkeypatch):
    """The step under way then is in no file, and is made again."""
    short = accumulate._ON_PROCESSOR._replace(draws_in_step=2**13)
    monkeypatch.setattr(accumulate, "_ON_PROCESSOR", short)
    file, told = tmp_path / "run.npz", []

    def stop(done: int, total: int) -> None:
        told.append(done)
        if done == 1024:
            raise error

    def run(**schedule) -> Simulation:
        plan = Schedule(chunk_size=256, **schedule)
        return simulate(
            jax.random.key(1), soft_best_of_n(THREE, 16, 0.3), num_trials=1500, schedule=plan
        )

    with pytest.raises(error):
        run(checkpoint=file, checkpoint_every=0.0, progress=stop)
    found = checkpoints.load(file)[1]
    assert told == [512, 1024]
    assert found["num_trials"] == found["counts"].sum() == 1024
    resumed, whole = run(checkpoint=file), run()
    np.testing.assert_array_equal(resumed.counts, whole.counts)
    assert resumed.reward == whole.reward


def test_the_engine_is_light():
    """SciPy loads its parts when they are named, a sixth of the memory and .3 s of imports."""
    process = start("""
        import sys
        from simulations import all_n, samplers, simulate
        parts = ("scipy.special", "scipy.stats", "scipy.optimize")
        print([name for name in parts if name in sys.modules])
    """)
    assert process.communicate(timeout=60)[0] == "[]\n"


@pytest.mark.slow
@pytest.mark.parametrize("devices", [8, 300])
def test_counts_of_a_step_fit_their_integers(devices):
    """Also where a single round of the longest chunks would be more than 2³¹ trials."""
    process = start(MANY, XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.split() == ["[4294967295]"]
