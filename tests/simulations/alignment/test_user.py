"""``python -m simulations align``: a checkpoint in, an aligned one and a page out."""

import importlib.util
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from simulations.__main__ import main
from simulations.alignment import training
from simulations.language_model.formats import load_checkpoint

GOLDEN = Path(__file__).parents[2] / "golden" / "checkpoints" / "llama"
PROMPTS = ["a cat", "a dog", "the sea", "it was", "one day", "they said"]


def arguments(folder: Path, *more: str, reward: str = "length", prompts=PROMPTS) -> list[str]:
    file = folder / "prompts.txt"
    file.write_text("\n\n".join(prompts), encoding="utf-8")
    sizes = "--n 2 --candidates 4 --max-new-tokens 6 --steps 4 --batch-size 4 --rank 2"
    rest = "--evaluate-every 2 --checkpoint-every 2 --learning-rate .01 --warmup-steps 0"
    return [
        *("align", "--checkpoint", str(GOLDEN), "--prompts", str(file)),
        *("--reward", reward, "--output", str(folder / "out"), *sizes.split(), *rest.split()),
        *more,
    ]


def parameters(checkpoint: Path) -> list[np.ndarray]:

    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(load_checkpoint(checkpoint)[0]))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert main(arguments(folder)) == 0
    return folder / "out"


def test_the_model_that_is_written_is_the_reference_moved(whole: Path):
    moved = [
        float(np.max(np.abs(a - b)))
        for a, b in zip(parameters(whole / "model"), parameters(GOLDEN), strict=True)
    ]
    assert 0 < max(moved) < 1


@pytest.mark.oracle
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="make test-oracle")
def test_transformers_loads_the_aligned_model_with_equal_logits(whole: Path):
    import torch  # pyright: ignore[reportMissingImports]
    import transformers  # pyright: ignore[reportMissingImports]

    model, tokenizer = load_checkpoint(whole / "model")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(whole / "model", dtype=torch.float32)
    words = transformers.AutoTokenizer.from_pretrained(whole / "model")
    text = "a cat and the sea"
    tokens = tokenizer.encode(text)
    assert words.encode(text, add_special_tokens=False) == tokens.tolist()
    with torch.no_grad():
        expected = theirs(torch.from_numpy(tokens[None].astype(np.int64))).logits.numpy()
    np.testing.assert_allclose(model(jnp.asarray(tokens[None])), expected, atol=1e-4)


def test_the_report_tells_what_became_of_it(whole: Path):
    found = json.loads((whole / "report.json").read_text(encoding="utf-8"))
    assert [at["step"] for at in found["trajectory"]] == [0, 2, 4]
    assert found["trajectory"][0]["kl"]["mean"] == pytest.approx(0, abs=1e-6)
    assert found["trajectory"][-1]["kl"]["mean"] > 0
    assert found["about"]["held-out prompts"] == 2
    page = (whole / "report.html").read_text(encoding="utf-8")
    win_rate = found["trajectory"][-1]["win_rate"]["mean"]
    assert f"<strong>{win_rate:.3f} ±" in page
    assert '<td class="text">' in page


def test_interrupted_it_goes_on_to_the_same_model(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Killed(BaseException):
        pass

    fit, calls = training.fit, []

    def killed(*args, progress, **kwargs):
        def tell(update):
            progress(update)
            if update.done == 3:
                raise Killed

        calls.append(1)
        return fit(*args, progress=tell if len(calls) == 1 else progress, **kwargs)

    monkeypatch.setattr(training, "fit", killed)
    with pytest.raises(Killed):
        main(arguments(tmp_path))
    assert main(arguments(tmp_path)) == 0
    for ours, theirs in zip(
        parameters(tmp_path / "out" / "model"), parameters(whole / "model"), strict=True
    ):
        assert np.array_equal(ours, theirs)
    assert (tmp_path / "out" / "report.json").read_bytes() == (whole / "report.json").read_bytes()


BROKEN = "tests.simulations.alignment.test_user"


def nothing(texts: list[str]) -> list[float]:
    return [float("nan")] * len(texts)


def raising(texts: list[str]) -> list[float]:
    raise RuntimeError("out of order")


def too_few(texts: list[str]) -> list[float]:
    return [0.0]


@pytest.mark.parametrize(
    ("more", "options", "message"),
    [
        ((), {"reward": f"{BROKEN}:nothing"}, "reward is nan for text 0"),
        ((), {"reward": f"{BROKEN}:raising"}, "reward raised RuntimeError('out of order')"),
        ((), {"reward": f"{BROKEN}:too_few"}, "scores of shape (1,) for"),
        ((), {"reward": "beauty"}, "--reward is 'beauty': choose sentiment or length"),
        ((), {"reward": f"{BROKEN}:missing"}, "which cannot be imported"),
        ((), {"reward": f"{BROKEN}:BROKEN"}, "which is a str: name a function"),
        (("--n", "1"), {}, "n must be"),
        (("--candidates", "1"), {}, "num_candidates must be"),
        (("--batch-size", "9"), {}, "fewer than the 9 of a batch"),
        ((), {"prompts": ["alone"]}, "at least one must be left to train on"),
    ],
)
def test_what_is_not_as_it_must_be_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more, options, message: str
):
    with pytest.raises(SystemExit) as stopped:
        main(arguments(tmp_path, *more, **options))
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_an_output_of_another_run_is_refused(whole: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(arguments(whole.parent, "--seed", "1"))
    assert "give this run a folder of its own" in capsys.readouterr().err
