"""Arrays in a plain pickle, read without running it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qejax.zoo.files._bounds import open_file
from qejax.zoo.files._budget import Budget, Unfit
from qejax.zoo.files._flat import flat
from qejax.zoo.files._numpy_globals import numpy_names
from qejax.zoo.files._pickle_program import Names, Program
from qejax.zoo.files._plain_globals import PLAIN
from qejax.zoo.files._stored import Stored
from qejax.zoo.files._stream import Stream
from qejax.zoo.files._torch_legacy import Legacy
from qejax.zoo.files._torch_tensors import TORCH, Storage

LOAD = "torch.storage _load_from_bytes"
"""A storage in a plain pickle: a checkpoint in the old format, as bytes."""


def read_pickle(
    path: Path, *, fields_of: Sequence[str] = (), ignore: Sequence[str] = ()
) -> Stored:
    """Returns the arrays and the plain values of a pickle, by dotted name.

    Arrays may be of NumPy or of PyTorch. For the rest see `read_torch`: nothing in the
    file is imported or run.

    Args:
        path: of a file by `pickle.dump`, protocol 2 to 5, with a dictionary outermost.
        fields_of: classes whose instances are read as dictionaries.
        ignore: dotted names of parts that are left out, whatever they hold.

    Raises:
        ValueError: if the file cannot be read, is damaged, or holds more than that;
            says what was expected, what was found and what to do.

    Example:
        >>> import pickle, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "a.pickle")
        ...     _ = path.write_bytes(pickle.dumps({"sizes": [1, 2], "a": {"b": "c"}}))
        ...     read_pickle(path).fields
        {'sizes': [1, 2], 'a.b': 'c'}
    """
    with open_file(path, "a pickle") as file:
        stream = Stream(file)
        budget = Budget(stream.size)
        records = tuple(name.rpartition(".")[2] for name in fields_of)

        def load(arguments: tuple[Any, ...]) -> Storage:
            match arguments:
                case (bytes(content),):
                    # Its table has no `load`: nothing is nested twice.
                    inner = Legacy(str(path), Stream(content), Names(TORCH), budget)
                    if isinstance(inner.value, Storage):
                        return inner.value
            raise Unfit("a storage as the bytes of a checkpoint", arguments)

        table = PLAIN | numpy_names(budget) | TORCH | {LOAD: load}
        names = Names(table, records, unknown=bool(ignore))
        value = Program(str(path), names, budget).run(stream)
        return flat(path, value, ignore, budget)
