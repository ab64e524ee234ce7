"""Every strict setting of ``conftest.py`` and ``pyproject.toml`` is on: each meets a violation."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import hypothesis
import jax
import jax.numpy as jnp
import pytest

ROOT = Path(__file__).parents[1]


def test_floats_are_float64():
    assert jnp.asarray(0.5).dtype == jnp.float64


def test_the_platform_is_the_one_asked_for():
    assert jax.default_backend() in os.environ["JAX_PLATFORMS"].split(",")


def test_compiled_programs_are_kept():
    def kept_program(x: jax.Array) -> jax.Array:
        return 1.5 * x

    cache = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    for entry in cache.glob("jit_kept_program*"):
        entry.unlink()
    jax.jit(kept_program)(jnp.ones(7))
    assert len(list(cache.glob("jit_kept_program*"))) > 0


def test_programs_share_a_context():
    one, other = (jax.jit(f).lower(1.0).compiler_ir() for f in (jnp.sin, jnp.cos))
    assert one.context is other.context  # pyright: ignore[reportOptionalMemberAccess]


def test_mixed_dtypes_raise():
    with pytest.raises(ValueError, match="dtype_promotion=strict"):
        _ = jnp.ones(2, "float32") + jnp.ones(2, "float64")


def test_mixed_ranks_raise():
    with pytest.raises(ValueError, match="rank_promotion"):
        _ = jnp.ones((2, 2)) + jnp.ones(2)


def test_a_key_used_twice_raises():
    key = jax.random.key(0)
    jax.random.bits(key)
    with pytest.raises(jax.errors.KeyReuseError):
        jax.random.bits(key)


def test_a_key_used_twice_under_jit_raises():
    with pytest.raises(jax.errors.KeyReuseError):
        jax.jit(lambda key: jax.random.bits(key) ^ jax.random.bits(key))(jax.random.key(0))


def test_warnings_are_errors():
    with pytest.raises(RuntimeWarning, match="planted"):
        warnings.warn("planted", RuntimeWarning, stacklevel=1)


def test_examples_are_fixed_and_have_no_deadline():
    settings = hypothesis.settings()
    assert settings.deadline is None
    if settings.max_examples < 1000:  # the thorough profile explores instead
        assert settings.derandomize


def test_promotion_is_implicit_only_where_asked_for(implicit_promotion: None):
    assert (jnp.ones(2, "float32") + jnp.ones(2, "float64")).dtype == jnp.float64


@pytest.mark.parametrize(
    ("planted", "report"),
    [
        ("import pytest\n@pytest.mark.slwo\ndef test_x(): pass", "'slwo' not found in `markers`"),
        ("import pytest\n@pytest.mark.xfail\ndef test_x(): pass", "XPASS(strict)"),
        ("def f():\n    '''\n    >>> 1.0 / 3\n    0.343\n    '''", "Expected:"),
    ],
    ids=["unknown marker", "stale xfail", "wrong example"],
)
def test_pytest_rejects(planted: str, report: str, tmp_path: Path):
    file = tmp_path / "test_planted.py"
    file.write_text(planted)
    options = ["-c", ROOT / "pyproject.toml", "--rootdir", tmp_path, "-p", "no:xdist"]
    command = [sys.executable, "-m", "pytest", *options, "-p", "no:cacheprovider", file]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode != 0
    assert report in run.stdout + run.stderr
