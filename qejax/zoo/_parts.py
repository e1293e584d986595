"""A zoo while it is being made: a recipe and finished parts in a folder beside it.

`OUT.partial` holds `recipe.json` and one `.npz` file a finished part, so that the same
call goes on where an interrupted one stopped. `OUT` appears when everything is there.
"""

import json
import os
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from qejax._disk import room
from qejax._processes import on_first
from qejax.zoo._manifest import MANIFEST, inside_zoo, read_manifest, versions


def partial_of(out: Path) -> Path:
    """Where what becomes `out` lives while it is being made."""
    return out.with_name(out.name + ".partial")


def found_before(out: Path, recipe: dict[str, Any]) -> bool:
    """Returns whether `out` is there already; else it can be begun.

    Raises:
        ValueError: if it was made by another recipe; says which part.
        FileExistsError: if it holds something that is no zoo, or is inside of one.
        NotADirectoryError: if it, or what it is in, is a file.
    """
    for place in (out, *out.parents):
        if place.exists() and not place.is_dir():
            raise NotADirectoryError(
                f"{out}: expected a folder for a zoo, got a place where {place} is a "
                f"file. Choose another folder."
            )
    if (out / MANIFEST).is_file():
        check_same(out, recipe, read_manifest(out)["config"])
        sweep(out)
        return True
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(
            f"{out}: expected a zoo or nothing, found a folder without {MANIFEST}. "
            f"Choose another folder."
        )
    other = inside_zoo(out)
    if other is not None:
        # What checks or copies the other zoo would meet files that are none of it.
        raise FileExistsError(
            f"{out}: expected a folder outside of other zoos, got one inside of the "
            f"zoo {other}. Choose another folder."
        )
    return False


def begun(out: Path, recipe: dict[str, Any]) -> bool:
    """Returns whether `out` is there already; else its unfinished form is.

    Raises:
        ValueError: if either was made by another recipe; says which part.
        FileExistsError: as `found_before`.
        NotADirectoryError: as `found_before`.
    """

    def found() -> bool:
        if found_before(out, recipe):
            return True
        begin(partial_of(out), recipe)
        return False

    return on_first(found)


def sweep(out: Path) -> None:
    """Removes what a finished zoo no longer needs, and what a killed write left."""
    for left in (partial_of(out), *out.parent.glob(f"{out.name}.draft-*")):
        shutil.rmtree(left, ignore_errors=True)


def load_part(
    path: Path, shapes: dict[str, tuple[int, ...]]
) -> dict[str, np.ndarray] | None:
    """A finished chunk; `None` if there is none, or a damaged one to train again."""
    if not path.is_file():
        return None
    try:
        # NumPy leaves a file open that it fails to read, so it is opened here.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as part:
            found = {name: part[name] for name in part.files}
    except _DAMAGED:
        return None
    dtypes = {array.dtype for array in found.values()}
    same = {name: array.shape for name, array in found.items()} == shapes
    return found if same and dtypes == {np.dtype(np.float32)} else None


_DAMAGED = (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error)
"""What NumPy raises for a file that is no whole `.npz`."""


def _draft(path: Path) -> Path:
    """Where this process writes a file before it has its name."""
    return path.with_name(f"{path.name}.draft-{os.getpid()}")


def save_part(path: Path, part: dict[str, Any]) -> None:
    """Writes a chunk; a killed write leaves no file of that name."""
    draft = _draft(path)
    with room(path), draft.open("wb") as file:
        np.savez(file, **part)
    os.replace(draft, path)


def begin(partial: Path, recipe: dict[str, Any]) -> None:
    """Makes the folder of unfinished chunks, or checks that it is of this zoo."""
    path = partial / "recipe.json"
    recipe = recipe | {"versions": versions()}
    if path.is_file():
        try:
            found = json.loads(path.read_text())
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path}: expected JSON that tells which zoo the chunks beside it are "
                f"of, got {error}. Remove the folder {partial} to start again."
            ) from error
        check_same(partial, recipe, found)
        return
    chunks = sorted(partial.glob("*.npz"))
    if chunks:
        raise ValueError(
            f"{partial}: expected recipe.json beside unfinished chunks, found none and "
            f"{chunks[0].name}. Remove the folder to start again."
        )
    draft = _draft(path)
    with room(path):
        partial.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(recipe))
    os.replace(draft, path)


def check_same(folder: Path, recipe: dict[str, Any], found: Any) -> None:
    found = found if isinstance(found, dict) else {}
    for part, expected in recipe.items():
        got = found.get(part)
        if got == expected:
            continue
        if isinstance(expected, dict) and isinstance(got, dict):
            names = [k for k in {**expected, **got} if expected.get(k) != got.get(k)]
            part, expected, got = (
                f"{part}.{names[0]}",
                expected.get(names[0]),
                got.get(names[0]),
            )
        raise ValueError(
            f"{folder}: this folder holds another zoo: {part} should be {expected}, "
            f"found {got}. Choose another folder, or remove this one."
        )
