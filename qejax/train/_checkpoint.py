"""Checkpoints on disk: of our own runs, by orbax.

A checkpoint is one directory, named by its step, that appears whole or not at all. It
holds some named trees and a JSON object. Trees are stored as nested dicts with string
keys (never modules, optimiser tuples or lists) and come back in the structure of a
template that the caller gives; keys, shapes, dtypes and checksums of the values and of
the JSON object are compared first. orbax itself notices truncated files, but not a
flipped byte.
"""

import warnings
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from qejax._disk import DiskFullError, room
from qejax._processes import agree, is_first, on_first
from qejax._trees import check_tree, flatten, nest
from qejax.train._stored import (
    abstract,
    checksum,
    digest,
    structs,
    table,
    to_host,
    to_template,
)

_META, _DIGEST = "meta", "sha256"
_COMPLETE = "_CHECKPOINT_METADATA"


class CheckpointError(Exception):
    """A checkpoint cannot be read; the message names it and says what to do.

    Attributes:
        path: of the checkpoint.
        reason: what is wrong with it.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(
            f"{path} is damaged: expected the checkpoint of step {path.name}, got an "
            f"error ({reason}). No older one is whole: delete {path.parent} to begin "
            f"again."
        )


class CheckpointWarning(UserWarning):
    """A damaged checkpoint was set aside, and an older one is gone on with."""


class Checkpoint(NamedTuple):
    """What `Checkpointer.restore` returns.

    Attributes:
        step: the step it was saved at.
        trees: by name, in the structures of the templates; leaves are NumPy arrays
            (typed JAX keys stay typed keys).
        metadata: the JSON object.
    """

    step: int
    trees: dict[str, Any]
    metadata: dict[str, Any]


class Checkpointer:
    """The checkpoints of one run in one directory; a context manager.

    The newest `keep` checkpoints are kept and older ones deleted. Directories that are
    named like a step but hold no checkpoint are never read, counted or deleted, but
    for empty ones, which are removed when the directory is opened.

    Saving copies the values to the host before it returns, so arrays may be donated
    afterwards; writing goes on in the background. Leaving the block waits for it.

    Many processes call every method alike, on a directory that all of them see. The
    first one writes, by an orbax that waits for no other process: what it meets, such
    as a full disk, it tells to all. Values are stored whole, so any number of processes
    and devices reads them.
    """

    def __init__(self, directory: Path, keep: int = 2) -> None:
        """Opens or makes `directory`.

        Args:
            directory: of this run alone.
            keep: checkpoints to keep, at least 1. With 2, one remains to fall back on
                when the newest is damaged.

        Raises:
            ValueError: if `keep` is below 1.
        """
        if keep < 1:
            raise ValueError(f"Checkpointer(keep=...): expected >= 1, got {keep}.")
        self.directory = directory.resolve()
        strays = set(on_first(self._opened))
        if not agree(self.directory.is_dir()).all():
            raise ValueError(
                f"{directory}: expected a directory that every process sees, got one "
                f"that only some do. Use storage that all hosts share."
            )
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_Latest(keep, strays),
                cleanup_tmp_directories=is_first(),
                create=False,
                multiprocessing_options=_alone(),
            ),
        )

    def _opened(self) -> list[int]:
        """Makes the directory; returns steps whose directories hold something else."""
        strays: list[int] = []
        self.directory.mkdir(parents=True, exist_ok=True)
        for path in self.directory.iterdir():
            if path.name.isdigit() and path.is_dir() and not _is_complete(path):
                if any(path.iterdir()):
                    strays.append(int(path.name))
                else:
                    path.rmdir()
        return strays

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        left = None
        try:
            with room(self.directory):
                self._manager.close()
        except Exception as caught:
            left = caught

        def tell() -> None:
            if left is not None:
                raise left

        if error is None:
            on_first(tell)
            tell()
        elif left is not None and not isinstance(error, DiskFullError):
            error.add_note(f"And the last checkpoint could not be saved: {left}")

    def steps(self) -> list[int]:
        """Returns the steps of the complete checkpoints, in rising order."""

        def complete() -> list[int]:
            found = self._manager.all_steps()
            return sorted(s for s in found if _is_complete(self.directory / str(s)))

        return on_first(complete)

    def save(
        self, step: int, trees: Mapping[str, Any], metadata: Mapping[str, Any]
    ) -> None:
        """Begins to save a checkpoint; does nothing if the step has one.

        Blocks until the save before is written and the values are on the host. Leaves
        without entries are not stored: the template holds all there is to them.

        Args:
            step: at least 0.
            trees: by name; pytrees of arrays.
            metadata: JSON values, nested dicts and lists.

        Raises:
            ValueError: if a directory of that name holds something else.
            ValueError: if a tree is called "meta".
            DiskFullError: if there is no room for it, or the one before; others stay.
            PeerError: on the other processes, if the first one could not write.
        """
        if _META in trees:
            raise ValueError(
                f"Checkpointer.save: expected trees under other names than {_META!r}, "
                f"which is taken by the metadata. Rename the tree."
            )
        self.wait()
        if step in self.steps():
            return
        path = self.directory / str(step)
        if on_first(path.exists):
            raise ValueError(
                f"{path}: expected no such directory before step {step} is saved, got "
                f"one without a checkpoint in it. Move it away, then run again."
            )
        host = {name: to_host(tree) for name, tree in trees.items()}
        meta = {
            "trees": {name: table(leaves) for name, leaves in host.items()},
            "checksums": {name: checksum(leaves) for name, leaves in host.items()},
            "metadata": dict(metadata),
        }
        items: dict[str, Any] = {
            name: ocp.args.StandardSave(nest(leaves))
            for name, leaves in host.items()
            if leaves
        }
        items[_META] = ocp.args.JsonSave(meta | {_DIGEST: digest(meta)})

        def begin() -> None:
            with room(path):
                # force: a stray directory of a higher step must not stop the saving.
                self._manager.save(step, args=ocp.args.Composite(**items), force=True)

        on_first(begin)

    def wait(self) -> None:
        """Blocks until what was saved is on disk, or there is no room: as `save`."""

        def finish() -> None:
            with room(self.directory):
                self._manager.wait_until_finished()

        on_first(finish)

    def restore(self, templates: Mapping[str, Any]) -> Checkpoint | None:
        """Returns the newest intact checkpoint, or None if there is none at all.

        Newer ones that are damaged (a file is missing or truncated, or a byte is not as
        it was saved) are renamed to `STEP.damaged`, each with a `CheckpointWarning`:
        they are never read, counted or deleted.

        Args:
            templates: for each tree to read, one with its structure, shapes and
                dtypes (arrays or `jax.ShapeDtypeStruct`). Trees that are not named
                are not read.

        Raises:
            CheckpointError: if there are checkpoints and all are damaged; all stay.
            ValueError: if a tree does not fit its template.
        """
        found, damaged = None, list[CheckpointError]()
        for step in reversed(self.steps()):
            error = None
            try:
                found = self._restored(step, templates)
            except CheckpointError as caught:
                error = caught
            if agree(error is None).all():
                break
            found = None
            damaged.append(error or self._damaged(step, "another process says so"))
        if found is None:
            if damaged:
                raise damaged[0]
            return None
        for error in damaged:
            self._set_aside(error, found.step)
        return found

    def _set_aside(self, error: CheckpointError, step: int) -> None:
        """Renames a damaged checkpoint: its step can be saved again."""
        path = error.path

        def rename() -> str:
            others = (path.with_name(f"{path.name}.damaged{n or ''}") for n in count())
            return path.rename(next(one for one in others if not one.exists())).name

        aside = on_first(rename)
        self._manager.reload()
        warnings.warn(
            f"{path} is damaged ({error.reason}): set aside as {aside}, going on "
            f"from step {step}. What came after that step is trained again.",
            CheckpointWarning,
            stacklevel=3,
        )

    def _restored(self, step: int, templates: Mapping[str, Any]) -> Checkpoint:
        meta = self._read(step, {_META: ocp.args.JsonRestore()})[_META]
        try:
            tables, checksums = meta["trees"], meta["checksums"]
            stored = {name: structs(tables[name]) for name in templates}
            metadata, sha256 = meta["metadata"], meta.pop(_DIGEST)
        except (KeyError, TypeError) as err:
            raise self._damaged(step, f"its metadata lack {err}") from err
        if digest(meta) != sha256:
            raise self._damaged(step, "its metadata were changed")
        for name, template in templates.items():
            check_tree(abstract(template), stored[name], f"{name!r} of step {step}")
        args = {
            name: ocp.args.StandardRestore(
                nest({path: np.empty(s.shape, s.dtype) for path, s in leaves.items()})
            )
            for name, leaves in stored.items()
            if leaves
        }
        read = self._read(step, args) if args else {}
        trees: dict[str, Any] = {}
        for name, template in templates.items():
            leaves = flatten(read.get(name, {}))
            leaves = {path: np.asarray(leaves[path]) for path in stored[name]}
            if checksum(leaves) != checksums.get(name):
                raise self._damaged(step, f"the values of {name!r} were changed")
            trees[name] = to_template(template, leaves)
        return Checkpoint(step, trees, metadata)

    def _read(self, step: int, args: dict[str, Any]) -> dict[str, Any]:
        """Reads items of a checkpoint; whatever goes wrong names its directory."""
        try:
            return dict(self._manager.restore(step, args=ocp.args.Composite(**args)))
        except Exception as err:
            raise self._damaged(step, f"a file cannot be read, {_short(err)}") from err

    def _damaged(self, step: int, reason: str) -> CheckpointError:
        return CheckpointError(self.directory / str(step), reason)


def _alone() -> ocp.options.MultiprocessingOptions:
    """Makes orbax wait for no other process.

    It would for ten minutes where one fails: none tells the others.
    """
    me = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=me,
        active_processes={me},
        barrier_sync_key_prefix=f"process_{me}",
    )


class _Latest:
    """Keeps the newest checkpoints, and every directory that is none.

    orbax asks when a save begins and deletes when it is complete.
    """

    def __init__(self, keep: int, strays: set[int]) -> None:
        self._keep = keep
        self._strays = strays

    def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
        """Returns for each checkpoint, in rising order, whether it stays."""
        del context
        steps = [info.step for info in checkpoints]
        newest = [step for step in steps if step not in self._strays][-self._keep :]
        return [step in self._strays or step in newest for step in steps]


def _is_complete(path: Path) -> bool:
    return (path / _COMPLETE).exists()


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
