"""The driver of training fits any loss, and keeps nothing that is not finite."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from simulations.language_model.fit import fit
from simulations.language_model.resume import Checkpoint


class Line(nnx.Module):
    """y = slope · x + intercept."""

    def __init__(self) -> None:
        self.slope = nnx.Param(jnp.zeros((), jnp.float32))
        self.intercept = nnx.Variable(jnp.ones((), jnp.float32))


def squares(model: Line, batch: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    x, y = batch
    errors = model.slope[...] * x + model.intercept[...] - y
    return jnp.sum(errors**2), jnp.float32(x.size)


def lines(step: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(step).normal(size=8).astype(np.float32)
    return x, 3 * x + 1


def test_any_loss_fits_and_what_is_frozen_stays() -> None:
    model = Line()
    fitted = fit(model, squares, lines, optax.adam(0.1), num_steps=150)
    assert float(model.slope[...]) == pytest.approx(3, abs=0.01)
    assert float(model.intercept[...]) == 1
    x, y = lines(0)
    assert fitted.losses[0] == pytest.approx(np.mean((1 - y) ** 2), rel=1e-6)
    assert fitted.gradient_norms[0] == pytest.approx(abs(np.mean(2 * x * (1 - y))), rel=1e-6)
    with pytest.raises(ValueError, match="no variable of the model is: name others"):
        fit(model, squares, lines, optax.adam(0.1), num_steps=1, trained=nnx.LoRAParam)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_and_the_last_good_state_is_kept(
    bad: float, tmp_path: Path
) -> None:
    def broken(step: int) -> tuple[np.ndarray, np.ndarray]:
        x, y = lines(step)
        return x, y if step < 5 else y * np.float32(bad)

    kept = Checkpoint(tmp_path, {"run": 1}, every=2)
    call = {"num_steps": 8, "checkpoint": kept}
    transform = optax.adam(0.1)
    with pytest.raises(FloatingPointError, match=f"step 5 has loss .*{tmp_path} holds an earlier"):
        fit(Line(), squares, broken, transform, **call)
    assert sorted(map(int, os.listdir(tmp_path))) == [2, 4]

    resumed, whole = Line(), Line()
    fitted = fit(resumed, squares, lines, transform, **call)
    np.testing.assert_array_equal(
        fitted.losses, fit(whole, squares, lines, transform, num_steps=8).losses
    )
    np.testing.assert_array_equal(resumed.slope[...], whole.slope[...])


def test_a_gradient_that_is_not_finite_stops_before_it_is_kept(tmp_path: Path) -> None:
    """sqrt(0) is finite, its derivative is not."""
    kept = Checkpoint(tmp_path, {}, every=1)
    with pytest.raises(FloatingPointError, match=r"step 0 has loss 0\.0 and a gradient of norm"):
        fit(Line(), roots, lines, optax.sgd(0.1), num_steps=1, checkpoint=kept)
    assert kept.load((jnp.zeros(()),)) is None


def roots(model: Line, batch: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    return jnp.sqrt(model.slope[...]), jnp.float32(1)


class Rounded(nnx.Module):
    """y = slope · x, computed in bfloat16."""

    def __init__(self) -> None:
        self.slope = nnx.Param(jnp.ones((), jnp.bfloat16))


def rounded_squares(model: Rounded, batch) -> tuple[jax.Array, jax.Array]:
    x, y = map(jnp.bfloat16, batch)
    return jnp.sum((model.slope[...] * x - y) ** 2, dtype=jnp.float32), jnp.float32(x.size)


def test_updates_smaller_than_the_models_precision_add_up(tmp_path: Path) -> None:
    """1 + .001 is 1 in bfloat16; a hundred such steps, interrupted and gone on, lead to 1.1."""
    kept, seen, model = Checkpoint(tmp_path, {}, every=40), [], Rounded()

    def stopping(step: int) -> tuple[np.ndarray, np.ndarray]:
        if step == 60:
            raise KeyboardInterrupt
        return lines(step)

    def train(batches) -> None:
        fit(
            model,
            rounded_squares,
            batches,
            optax.rmsprop(0.001, decay=0.0),
            num_steps=100,
            checkpoint=kept,
            observe=lambda done, model: seen.append((done, model.slope[...])),
            observe_at=(0, 50, 100),
        )

    with pytest.raises(KeyboardInterrupt):
        train(stopping)
    train(lines)
    assert model.slope[...].dtype == jnp.bfloat16
    assert float(model.slope[...]) == pytest.approx(1.1, abs=2**-8)
    assert [done for done, _ in seen] == [0, 50, 50, 100]
    assert {slope.dtype for _, slope in seen} == {jnp.dtype("bfloat16")}
    assert float(seen[1][1]) == float(seen[2][1]) == pytest.approx(1.05, abs=2**-8)


def test_double_precision_is_kept() -> None:
    """A step of 1e-9 from 1 is none in float32."""
    model = Rounded()
    model.slope = nnx.Param(jnp.ones((), jnp.float64))
    fit(model, doubled, lines, optax.sgd(1e-9), num_steps=1)
    assert model.slope[...].dtype == jnp.float64
    assert 0 < abs(float(model.slope[...]) - 1) < 1e-7


def doubled(model: Rounded, batch) -> tuple[jax.Array, jax.Array]:
    x, y = map(jnp.float64, batch)
    return jnp.sum((model.slope[...] * x - y) ** 2), jnp.float64(x.size)
