"""Language models of real sizes on one accelerator, in bfloat16: tokens per second and their share.

Random weights in two shapes, SmolLM2-135M and Pythia-1.4b. Sampling is the whole call of
:func:`~simulations.language_model.generate.generate`, training an update of AdamW. Beside them
stand two yardsticks of the same run, the rate of bfloat16 products of square matrices and that at
which memory is copied, and, where PyTorch is installed, the same there; where ``transformers`` is,
the same architectures by its ``generate`` and by the usual loop. ``benchmarks.accelerator`` runs
this.
"""

from __future__ import annotations

import dataclasses
import gc
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks import measure
from benchmarks.sampling import PROMPT, SMOLLM2, TINY, prompts
from simulations.language_model.fit import fit
from simulations.language_model.generate import generate
from simulations.language_model.text.tokenizers import Vocabulary
from simulations.language_model.transformer import (
    Transformer,
    TransformerConfig,
    next_token_loss,
    num_parameters,
)

PYTHIA = TransformerConfig(
    Vocabulary(50304, 0, 0), width=2048, num_layers=24, num_heads=16, hidden_width=8192,
    norm="layer", norm_epsilon=1e-5, activation="gelu", attention_bias=True, output_bias=True,
    perceptron_bias=True, parallel=True, rotary_fraction=0.25,
)  # fmt: skip
RATE = 1e-5


@dataclass(frozen=True)
class Size:
    """What one model is asked to do.

    Attributes:
        config: of the model; made bfloat16, and to compute activations once more in training.
        rows: continuations of one prompt.
        num_tokens: of each.
        batch: sequences of an update.
        window: tokens of each.
        num_steps: updates that are timed.
    """

    config: TransformerConfig
    rows: int
    num_tokens: int
    batch: int
    window: int
    num_steps: int = 10

    def __post_init__(self) -> None:
        """Set the type."""
        config = dataclasses.replace(self.config, dtype="bfloat16", rematerialise=True)
        object.__setattr__(self, "config", config)


SIZES = {
    "SmolLM2-135M": Size(SMOLLM2, rows=1024, num_tokens=128, batch=16, window=1024),
    "Pythia-1.4b": Size(PYTHIA, rows=256, num_tokens=128, batch=8, window=1024),
}
QUICK = {"tiny": Size(TINY, rows=4, num_tokens=4, batch=2, window=8, num_steps=2)}


def yardsticks(width: int, megabytes: int) -> dict[str, float]:
    """Operations per second of bfloat16 products; bytes per second read and written by a copy."""
    square = jnp.ones((width, width), jnp.bfloat16)
    long = jnp.ones(megabytes * 2**19, jnp.bfloat16)
    multiply, copy = jax.jit(jnp.matmul), jax.jit(lambda x: x + jnp.bfloat16(1))

    def seconds(run: Callable[[], jax.Array]) -> float:
        jax.block_until_ready(run())
        return measure.seconds(lambda: jax.block_until_ready(run()), repeats=9)

    return {
        "products_per_s": 2.0 * width**3 / seconds(lambda: multiply(square, square)),
        "bytes_per_s": 2.0 * long.nbytes / seconds(lambda: copy(long)),
    }


def torch_yardsticks(width: int, megabytes: int, device: str) -> dict[str, float]:
    """The same by PyTorch."""
    import torch  # pyright: ignore[reportMissingImports]

    square = torch.ones(width, width, dtype=torch.bfloat16, device=device)
    long = torch.ones(megabytes * 2**19, dtype=torch.bfloat16, device=device)

    def seconds(run: Callable[[], Any]) -> float:
        def waited() -> None:
            run()
            _wait(torch, device)

        waited()
        return measure.seconds(waited, repeats=9)

    return {
        "products_per_s": 2.0 * width**3 / seconds(lambda: square @ square),
        "bytes_per_s": 2.0 * 2 * long.numel() / seconds(lambda: long + 1),
    }


def ours(size: Size, peak: dict[str, float]) -> dict[str, float]:
    """Tokens per second, sampled and trained on, and shares of the yardsticks."""
    model = Transformer(size.config, rngs=nnx.Rngs(0))
    parameters = num_parameters(model)

    def sample(num_tokens: int) -> float:
        def call() -> None:
            generate(
                jax.random.key(0),
                model,
                prompts(size.config, 1),
                num_candidates=size.rows,
                max_new_tokens=num_tokens,
                batch_size=size.rows,
            )

        call()
        return measure.seconds(call, repeats=3)

    whole, first = sample(size.num_tokens), sample(1)
    step = max(whole - first, 1e-9) / (size.num_tokens - 1)
    batch = _batches(size)
    speed = fit(  # the first update compiles, and is not counted
        model,
        next_token_loss,
        lambda step: batch,
        optax.adamw(RATE),
        num_steps=size.num_steps + 1,
    ).speed
    return {
        "parameters": parameters,
        "sampled_per_s": size.rows * size.num_tokens / whole,
        "decoded_per_s": size.rows / step,
        "share_of_products_decoding": 2.0 * parameters * size.rows / step / peak["products_per_s"],
        "share_of_bandwidth_decoding": _bytes(size, parameters) / step / peak["bytes_per_s"],
        "trained_on_per_s": speed,
        # Forward, backward, and the forward pass once more.
        "share_of_products_training": 8.0 * parameters * speed / peak["products_per_s"],
    }


def theirs(size: Size, device: str) -> dict[str, float]:
    """Tokens per second of ``transformers`` on PyTorch."""
    import torch  # pyright: ignore[reportMissingImports]

    model = _peer(size.config).to(device=device, dtype=torch.bfloat16)
    tokens = torch.from_numpy(prompts(size.config, 1).astype(np.int64)).to(device)

    def sample(num_tokens: int) -> float:
        def call() -> None:
            model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                do_sample=True,
                top_k=0,
                num_return_sequences=size.rows,
                min_new_tokens=num_tokens,
                max_new_tokens=num_tokens,
                pad_token_id=0,
            )
            _wait(torch, device)

        call()
        return measure.seconds(call, repeats=2)

    model.eval()
    whole, first = sample(size.num_tokens), sample(1)
    step = max(whole - first, 1e-9) / (size.num_tokens - 1)
    model.train()
    # The name before transformers 5.24, which warns of it.
    former = model.gradient_checkpointing_enable
    getattr(model, "activation_checkpointing_enable", former)()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    batch = torch.from_numpy(_batches(size)).long().to(device)

    def update() -> None:
        logits = model(input_ids=batch[:, :-1]).logits.float()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    update()
    _wait(torch, device)
    start = time.perf_counter()
    for _ in range(size.num_steps):
        update()
    _wait(torch, device)
    seconds = time.perf_counter() - start
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "sampled_per_s": size.rows * size.num_tokens / whole,
        "decoded_per_s": size.rows / step,
        "trained_on_per_s": size.num_steps * size.batch * size.window / seconds,
    }


def run(device: str, *, quick: bool) -> dict[str, Any]:
    """All sizes; ``device`` is JAX's platform, and PyTorch is asked for the same card."""
    card = "cpu" if device == "cpu" else "cuda"
    width, megabytes = (256, 1) if quick else (8192, 1024)
    peak = yardsticks(width, megabytes)
    results: dict[str, Any] = {"yardsticks": {"jax": peak}}
    has_torch, has_transformers = map(importlib.util.find_spec, ("torch", "transformers"))
    if has_torch:
        results["yardsticks"]["torch"] = torch_yardsticks(width, megabytes, card)
    for name, size in (QUICK if quick else SIZES).items():
        results[name] = {"ours": ours(size, peak)}
        jax.clear_caches()
        gc.collect()
        if has_torch and has_transformers:
            results[name]["transformers"] = theirs(size, card)
            gc.collect()
    return results


def _batches(size: Size) -> np.ndarray:
    """Random tokens: what they are changes no time."""
    most = size.config.vocabulary.num_tokens
    shape = size.batch, size.window + 1
    return np.random.default_rng(0).integers(0, most, shape).astype(np.int32)


def _bytes(size: Size, parameters: int) -> float:
    """Read by a step: all parameters, and each row's own keys and values, half full on average."""
    config = size.config
    own = size.rows * size.num_tokens / 2 + PROMPT
    return 2.0 * (parameters + 2 * own * config.num_layers * config.key_heads * config.head_size)


def _peer(config: TransformerConfig) -> Any:
    """The same architecture in ``transformers``, at random."""
    import transformers  # pyright: ignore[reportMissingImports]

    shared: dict[str, Any] = {
        "vocab_size": config.vocabulary.num_tokens,
        "hidden_size": config.width,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.hidden_size,
        "tie_word_embeddings": config.tied_head,
        "use_cache": True,
    }
    if config.parallel:
        return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**shared))
    shared["num_key_value_heads"] = config.key_heads
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**shared))


def _wait(torch: Any, device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
