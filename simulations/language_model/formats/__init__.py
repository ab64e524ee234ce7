"""Models and tokenizers that others trained: directories of ``transformers``, and GGUF files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from simulations.language_model.formats import gguf, hugging_face
from simulations.language_model.formats.hugging_face import save_checkpoint
from simulations.language_model.text.chat import CheckpointTokenizer
from simulations.language_model.transformer import Transformer

__all__ = ["load_checkpoint", "save_checkpoint"]


def load_checkpoint(
    path: Path, *, dtype: Literal["float32", "bfloat16"] = "float32"
) -> tuple[Transformer, CheckpointTokenizer]:
    """Model and tokenizer of a directory as ``transformers`` writes it, or of a GGUF file.

    Args:
        path: a local one; nothing is fetched.
        dtype: of parameters and activations, whatever the file's.

    Raises:
        ValueError: a setting or a tensor that is missing, unknown, malformed or not implemented,
            which it names; a file that is damaged.
    """
    if not path.exists():
        raise ValueError(f"{path} is not there: pass a directory or a GGUF file of this machine")
    if path.is_file():
        return gguf.load_checkpoint(path, dtype=dtype)
    model = hugging_face.load_model(path, dtype=dtype)
    return model, hugging_face.load_tokenizer(path)
