"""Arrays on disk that are either whole or not there, and that know what they belong to."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

Identity = Mapping[str, Any]
"""What a file belongs to, as JSON: a configuration, the hash of a corpus, a key."""

_IDENTITY = "identity"


def save(path: Path, identity: Identity, arrays: Mapping[str, np.ndarray]) -> None:
    """Write `arrays` and the `identity` they belong to as one `.npz` file, atomically."""
    if _IDENTITY in arrays:
        raise ValueError(f"arrays has the reserved name {_IDENTITY!r}: rename that array")
    text = np.asarray(_canonical(identity))
    write_atomically(
        path, lambda file: np.savez_compressed(file, allow_pickle=False, identity=text, **arrays)
    )


def load(
    path: Path, identity: Identity | None = None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The identity and the arrays that `save` wrote.

    Raises:
        ValueError: `identity` is given and the file belongs to another one.
    """
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    found = str(arrays.pop(_IDENTITY))
    if identity is not None and found != _canonical(identity):
        raise ValueError(
            f"{path} belongs to\n  {found}\nbut the run is\n  {_canonical(identity)}\n"
            "Give this run a path of its own, or delete the file to start afresh."
        )
    return json.loads(found), arrays


def file_name(stem: str, identity: Identity) -> str:
    """A name that no run of another identity has, so that none is in another's way.

    >>> file_name("model", {"num_steps": 600})
    'model-9036b51b.npz'
    """
    digest = hashlib.sha256(_canonical(identity).encode()).hexdigest()
    return f"{stem}-{digest[:8]}.npz"


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in `path`'s place at once.

    An interruption leaves the old file as it was, and no half-written one.

    Raises:
        OSError: nothing could be written, for instance because the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        message = (
            f"cannot write {path}: {error.strerror or error}; what was there before is intact. "
            "Make room, then run again to go on from it"
        )
        raise OSError(error.errno, message) from error


def _canonical(identity: Identity) -> str:
    """One text per identity: JSON makes tuples lists, and the order of names is fixed."""
    return json.dumps(identity, sort_keys=True)
