"""The files of a zoo of modelzoos.cc: a folder a model, a checkpoint an epoch.

A model has `params.json` (how it was made and trained), `result.json` (a line of JSON
an epoch) and `checkpoint_<epoch>/checkpoints`. No checkpoint is opened here.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

from qejax.zoo.formats._json import parsed_object, read_json

PARAMETERS, RESULTS, NAME = "params.json", "result.json", "checkpoints"
EPOCH = "training_iteration"
LABELS = ("train_acc", "test_acc", "train_loss", "test_loss", "ggap")

MAX_PARAMETERS = 2**20  # bytes
MAX_LINE = 2**20

_FOLDER = re.compile("checkpoint_([0-9]{1,9})")
_PLAIN = (bool, int, float, str, type(None))


class Model(NamedTuple):
    """One training run.

    Attributes:
        name: of its folder.
        hyper: what `params.json` says, without lists and objects in it.
        checkpoints: files by epoch, in order.
        labels: by epoch, those of `LABELS` that its line has.
    """

    name: str
    hyper: dict[str, bool | int | float | str | None]
    checkpoints: dict[int, Path]
    labels: dict[int, dict[str, float]]


def find_models(directory: Path) -> list[Path]:
    """Returns the folders of all models, sorted. Follows no links.

    Raises:
        ValueError: if there are none.
    """
    folders = sorted(
        path.parent
        for path in directory.glob(f"*/{PARAMETERS}")
        if not path.parent.is_symlink()
    )
    if not folders:
        raise ValueError(
            f"{directory}: expected a folder a model with {PARAMETERS} in it, as zoos "
            f"of modelzoos.cc have them, found none. Check the path."
        )
    return folders


def read_model(folder: Path) -> Model:
    """Returns what is known of a model.

    Raises:
        ValueError: if a file is missing or damaged, or a checkpoint has no line of
            results; names file, expected and found.
    """
    settings = read_json(folder / PARAMETERS, MAX_PARAMETERS)
    labels = _labels(folder / RESULTS)
    checkpoints = {
        int(found[1]): path / NAME
        for path in sorted(folder.iterdir())
        if (found := _FOLDER.fullmatch(path.name))
        and not path.is_symlink()
        and (path / NAME).is_file()
        and not (path / NAME).is_symlink()
    }
    missing = sorted(checkpoints.keys() - labels.keys())
    if missing:
        raise ValueError(
            f"{folder / RESULTS}: expected a line of every epoch that has a "
            f"checkpoint, got none of {missing[:5]}. Fetch the file again."
        )
    hyper = {name: value for name, value in settings.items() if type(value) in _PLAIN}
    return Model(folder.name, hyper, dict(sorted(checkpoints.items())), labels)


def _labels(path: Path) -> dict[int, dict[str, float]]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise ValueError(
            f"{path}: expected results of the epochs that can be opened, got {error}. "
            f"Fetch the model again."
        ) from error
    labels: dict[int, dict[str, float]] = {}
    with file:
        number = 0
        while content := file.readline(MAX_LINE):
            number += 1
            where = f"{path}, line {number}"
            line = parsed_object(where, content)
            epoch = line.get(EPOCH)
            found: dict[str, Any] = {n: line[n] for n in LABELS if n in line}
            good = [
                type(value) is float or (type(value) is int and abs(value) < 2**63)
                for value in found.values()
            ]
            if type(epoch) is not int or not all(good):
                raise ValueError(
                    f"{where}: expected an epoch {EPOCH} and numbers {list(LABELS)}, "
                    f"got {epoch!r:.40} and {str(found)[:160]}. Fetch the file again."
                )
            # A run that went on after a pause has lines twice: the last one counts.
            labels[epoch] = {name: float(value) for name, value in found.items()}
    return labels
