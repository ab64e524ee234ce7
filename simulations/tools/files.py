"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO


def write_atomically(path: Path, content: str | bytes | Callable[[IO[bytes]], object]) -> None:
    """Put a file in ``path``'s place at once; an interruption leaves the old one as it was.

    Args:
        path: where to; folders above it are made.
        content: text (in UTF-8), bytes, or a function that writes them to a stream.

    Raises:
        OSError: nothing could be written, for instance because the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")  # of this process alone
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                # On disk before it takes the other's place: a power cut leaves one of the two.
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        message = (
            f"cannot write {path}: {error.strerror or error}; what was there before is intact. "
            "Make room, then run again to go on from it"
        )
        raise OSError(error.errno, message) from error
