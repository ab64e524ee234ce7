"""Training that goes on after an interruption: its state on disk, by orbax, whole or not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from simulations.engine.checkpoint import Identity

if TYPE_CHECKING:  # most runs keep no state
    import orbax.checkpoint as orbax


@dataclass(frozen=True)
class Checkpoint:
    """A folder that holds the newest two states of one run.

    A state is written under another name and then renamed: a run that is killed at any moment finds
    the former one.

    Attributes:
        folder: of this run alone; made if it is not there.
        identity: what decides the run, as JSON: another run's state is refused.
        every: updates between two writings; the last state is always written.
    """

    folder: Path
    identity: Identity
    every: int = 100

    @property
    def is_begun(self) -> bool:
        """Whether there is a state from which a run goes on."""
        if not self.folder.exists():
            return False
        with self._manager() as manager:
            return manager.latest_step() is not None

    def is_due(self, done: int, total: int) -> bool:
        """Whether the state after ``done`` of ``total`` updates is to be written."""
        return done % self.every == 0 or done == total

    def save(self, done: int, state: Any) -> None:
        """Write ``state``, a pytree of arrays, after ``done`` updates."""
        import orbax.checkpoint as orbax

        with self._manager() as manager:
            manager.save(
                done,
                args=orbax.args.Composite(
                    state=orbax.args.StandardSave(_named(state)),
                    identity=orbax.args.JsonSave({"identity": _plain(self.identity)}),
                ),
                force=True,
            )

    def load(self, like: Any) -> tuple[int, Any] | None:
        """The newest state and how many updates made it; None where there is none.

        Args:
            like: a state of the same shapes, types and places.

        Raises:
            ValueError: the state is of another run, or damaged.
        """
        import orbax.checkpoint as orbax

        if not self.folder.exists():
            return None
        with self._manager() as manager:
            done = manager.latest_step()
            if done is None:
                return None
            try:
                told = orbax.args.Composite(identity=orbax.args.JsonRestore())
                found = manager.restore(done, args=told)["identity"]["identity"]
                if found == _plain(self.identity):
                    shapes = jax.tree.map(orbax.utils.to_shape_dtype_struct, _named(like))
                    state = orbax.args.Composite(state=orbax.args.StandardRestore(shapes))
                    leaves = manager.restore(done, args=state)["state"].values()
                    return done, jax.tree.unflatten(jax.tree.structure(like), leaves)
            except Exception as error:  # whatever the layers below say of a damaged file
                raise ValueError(
                    f"{self.folder / str(done)} must be a state as it was written, got a damaged "
                    f"or foreign one ({type(error).__name__}: {str(error)[:80]}): delete it to go "
                    "on from the one before, or all of the folder to start afresh"
                ) from error
        raise ValueError(
            f"{self.folder} belongs to\n  {json.dumps(found, sort_keys=True)}\nbut the run is\n  "
            f"{json.dumps(self.identity, sort_keys=True)}\n"
            "Give this run a folder of its own, or delete the folder to start afresh."
        )

    @contextmanager
    def _manager(self) -> Iterator[orbax.CheckpointManager]:
        import orbax.checkpoint as orbax

        options = orbax.CheckpointManagerOptions(
            max_to_keep=2,
            create=True,
            cleanup_tmp_directories=True,
            enable_async_checkpointing=False,
        )
        with orbax.CheckpointManager(self.folder.absolute(), options=options) as manager:
            yield manager


def _plain(identity: Identity) -> Any:
    return json.loads(json.dumps(identity))  # tuples are lists there


def _named(state: Any) -> dict[str, Any]:
    """The leaves by their number and path, in the order of the tree."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {
        f"{index:05}.{jax.tree_util.keystr(path, simple=True, separator='.')}": leaf
        for index, (path, leaf) in enumerate(leaves)
    }
