"""Arrays on disk that are either whole or not there, and that know what they belong to."""

import dataclasses
import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simulations.tools.files import write_atomically

Identity = Mapping[str, Any]
"""What a file belongs to, as JSON: a configuration, the hash of a corpus, a key."""

_IDENTITY = "identity"
# What NumPy raises on a file that was cut short, overwritten, or is of another kind.
_DAMAGES = (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError)


def save(path: Path, identity: Identity, arrays: Mapping[str, np.ndarray]) -> None:
    """Write ``arrays`` and the ``identity`` they belong to as one ``.npz`` file, atomically."""
    if _IDENTITY in arrays:
        raise ValueError(f"arrays has the reserved name {_IDENTITY!r}: rename that array")
    text = np.asarray(_canonical(identity))
    write_atomically(
        path, lambda file: np.savez_compressed(file, allow_pickle=False, identity=text, **arrays)
    )


def load(
    path: Path, identity: Identity | None = None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The identity and the arrays that ``save`` wrote.

    Raises:
        ValueError: the file is damaged, or ``identity`` is given and the file belongs to another
            one.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        found = str(arrays.pop(_IDENTITY))
    except _DAMAGES as error:
        raise ValueError(
            f"{path} must be a checkpoint as it was written, got a damaged or foreign file "
            f"({type(error).__name__}: {error}): delete it to start afresh, or restore a copy"
        ) from error
    if identity is not None and found != _canonical(identity):
        raise ValueError(
            f"{path} belongs to\n  {found}\nbut the run is\n  {_canonical(identity)}\n"
            "Give this run a path of its own, or delete the file to start afresh."
        )
    return json.loads(found), arrays


def describe(value: Any) -> Any:
    """A configuration as JSON: fields by name, functions by name, long arrays by their hash.

    A dataclass with a method ``description`` speaks for itself.

    Raises:
        ValueError: for a lambda or a local function, whose name says nothing.
    """
    if hasattr(value, "description"):
        return {"is": type(value).__name__, **value.description()}
    if dataclasses.is_dataclass(value):
        fields = {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"is": type(value).__name__, **fields}
    if isinstance(value, tuple | list):
        return [describe(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        if value.size <= 8:
            return value.tolist()
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]
        return f"{value.dtype}{list(value.shape)} {digest}"
    if callable(value):
        name = f"{value.__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}"
        if "<" in name or not hasattr(value, "__qualname__"):
            raise ValueError(
                f"functions of a run with a checkpoint must be told by their names, got {name}: "
                "define it by def at the top of a module"
            )
        return name
    return value


def file_name(stem: str, identity: Identity) -> str:
    """A name that no run of another identity has, so that none is in another's way.

    >>> file_name("model", {"num_steps": 600})
    'model-9036b51b.npz'
    """
    return f"{folder_name(stem, identity)}.npz"


def folder_name(stem: str, identity: Identity) -> str:
    """Likewise for what is kept in a folder."""
    digest = hashlib.sha256(_canonical(identity).encode()).hexdigest()
    return f"{stem}-{digest[:8]}"


def _canonical(identity: Identity) -> str:
    """One text per identity: JSON makes tuples lists, and the order of names is fixed."""
    return json.dumps(identity, sort_keys=True)
