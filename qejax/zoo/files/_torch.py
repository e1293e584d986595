"""Tensors of a PyTorch checkpoint, read without PyTorch and without running anything.

Since PyTorch 1.6 a `.pt` or `.pth` file is a zip archive, before it was a few pickles
one behind the other. What is in the pickles is followed by `_pickle_program`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qejax.zoo.files._bounds import open_file
from qejax.zoo.files._budget import Budget
from qejax.zoo.files._flat import flat
from qejax.zoo.files._numpy_globals import numpy_names
from qejax.zoo.files._pickle_program import Names, Program
from qejax.zoo.files._plain_globals import PLAIN
from qejax.zoo.files._stored import Stored
from qejax.zoo.files._stream import Stream
from qejax.zoo.files._torch_archive import MAX_PICKLE, Records
from qejax.zoo.files._torch_legacy import HEAD, Legacy
from qejax.zoo.files._torch_tensors import TORCH, Storages


def read_state(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a checkpoint by dotted name, in the order of the file.

    These are the `tensors` of `read_torch`, for files that hold nothing else of use.

    Args:
        path: of a file by `torch.save(model.state_dict(), path)`.

    Raises:
        ValueError: as `read_torch`.

    Example:
        >>> import tempfile, zipfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "net.pt")
        ...     with zipfile.ZipFile(path, "w") as file:
        ...         file.writestr("net/data.pkl", "}.")  # an empty dictionary
        ...     read_state(path)
        {}
    """
    return read_torch(path).tensors


def read_torch(
    path: Path, *, fields_of: Sequence[str] = (), ignore: Sequence[str] = ()
) -> Stored:
    """Returns the tensors and the plain values of a checkpoint, by dotted name.

    Nested dictionaries are flattened, `{"net": {"bias": b}}` to `{"net.bias": b}`, and
    so are lists of anything but plain values, by position. Arrays are contiguous and of
    the type in the file; bfloat16 is read as float32, without loss. Numbers of NumPy
    are numbers; an OmegaConf configuration and an `argparse.Namespace` are what they
    hold. Bytes, dates, paths, devices, counters and names of classes are left out.
    Nothing in the file is imported or run, whatever it holds.

    Args:
        path: of a file by `torch.save`, of any version from 0.4 on and of any name.
        fields_of: classes, with or without their module. An instance of a class of
            that last name is read as a dictionary of its attributes.
        ignore: dotted names of parts that are left out. Names of other functions and
            classes, an error elsewhere, may be in them.

    Raises:
        ValueError: if the file cannot be read, is damaged, or holds more than tensors,
            plain values and what is allowed above; says what was expected, what was
            found and what to do.

    Example:
        >>> import tempfile
        >>> from qejax.zoo.files import write_torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "net.pt")
        ...     write_torch(path, {"net.bias": np.zeros(2)}, {"epoch": 3})
        ...     read_torch(path)
        Stored(tensors={'net.bias': array([0., 0.])}, fields={'epoch': 3})
    """
    with open_file(path, "a PyTorch checkpoint") as file:
        stream = Stream(file)
        budget = Budget(stream.size)
        records = tuple(name.rpartition(".")[2] for name in fields_of)
        table = PLAIN | numpy_names(budget) | TORCH
        names = Names(table, records, unknown=bool(ignore))
        head = stream.at(0, len(HEAD))
        if head.startswith(b"PK\x03\x04"):
            archive = Records(path, file)
            storages = Storages(
                lambda key, size: archive.check(f"data/{key}", size),
                lambda key, size: archive.read(f"data/{key}", size),
                archive.order,
            )
            program = Stream(archive.read("data.pkl", limit=MAX_PICKLE))
            names = names._replace(persistent=storages.persistent)
            value = Program(f"{path}: data.pkl", names, budget).run(program)
        elif head == HEAD:
            value = Legacy(str(path), stream, names, budget).value
        else:
            raise ValueError(
                f"{path}: expected a file by torch.save, which is a zip archive, or "
                f"before PyTorch 1.6 began with a magic number, got one that starts "
                f"with {head[:4]!r}. Fetch the file again."
            )
        return flat(path, value, ignore, budget)
