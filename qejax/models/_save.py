"""A trained model as one folder: what it is built of, and its weights.

`model.json` has the arguments of the model and checksums, `weights.safetensors` its
parameters and the constants that were fitted: no state of an optimiser, and nothing
that follows from the arguments. Reading runs nothing that is in a file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from qejax import _trees
from qejax.models import _folder, _weights_file
from qejax.models._counted import counted
from qejax.models._kinds import KINDS, arguments_of, builder, kind_of

WEIGHTS = "weights.safetensors"

MODEL, BESIDE = "model/", "beside/"
"""Beginnings of the names of arrays: of the model, and of what was given beside it."""

BEGINNING = 8
"""Numbers of an array that follows from the arguments by which it is known again."""


class Saved(NamedTuple):
    """What a folder holds.

    Attributes:
        model: ready to be called.
        notes: JSON that was given beside it.
        arrays: likewise, by name.
    """

    model: Any
    notes: dict[str, Any]
    arrays: dict[str, np.ndarray]


def save(
    model: nnx.Module,
    directory: str | Path,
    *,
    notes: Mapping[str, Any] | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes a trained model as one folder, whole or not at all.

    Equal models give equal files; saving one again where it lies changes nothing.

    Args:
        model: a `Predictor`, `MixedPredictor`, `Classifier`, `Editor` or `Gauge`.
        directory: of the model; folders above it are made.
        notes: what else there is to say, as JSON holds it.
        arrays: likewise, by name.
        overwrite: whether another model that lies there is replaced.

    Returns:
        The directory.

    Raises:
        ValueError: if the model is another one, something else lies there, or an array
            has a type that files have not.
    """
    kind, folder = kind_of(model), Path(directory)
    leaves = {p: np.asarray(x) for p, x in _leaves(model).items()}
    derived = {}
    for path in [path for path in KINDS[kind].derived if path in leaves]:
        array = _derived(kind, path, model, leaves[path].dtype)
        # Others in its place are kept like everything else.
        if np.array_equal(array, leaves[path]):
            del leaves[path]
            derived[path] = {
                "dtype": array.dtype.name,
                "begins": array.reshape(-1)[:BEGINNING].tolist(),
            }
    stored = {f"{MODEL}{path}": array for path, array in leaves.items()}
    for name, array in (arrays or {}).items():
        stored[f"{BESIDE}{name}"] = np.asarray(array)
    shapes = _weights_file.shapes_of(stored)
    record = {
        "kind": kind,
        "arguments": arguments_of(model),
        "arrays": {name: list(shape) for name, shape in shapes.items()},
        "derived": derived,
        "notes": dict(notes or {}),
        "versions": {
            "jax": jax.__version__,
            "flax": flax.__version__,
            "numpy": np.__version__,
        },
    }
    files = {WEIGHTS: _weights_file.to_bytes(stored)}
    _folder.write_folder(folder, record, files, overwrite)
    return folder


def load(directory: str | Path) -> Any:
    """Returns the model that `save` wrote, ready to be called.

    Args:
        directory: of the model.

    Raises:
        ValueError: as `load_saved`.

    Example:
        >>> import tempfile
        >>> from qejax import nets
        >>> from qejax.models import Predictor
        >>> net = nets.mlp((4, 3, 2))
        >>> predictor = Predictor(net.spec, 4, network=net, rngs=nnx.Rngs(0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = load(save(predictor, f"{folder}/predictor"))
        >>> theta = net.init(jax.random.key(0))
        >>> bool(again(theta) == predictor(theta))
        True
    """
    return load_saved(directory).model


def load_saved(directory: str | Path) -> Saved:
    """Returns the model that `save` wrote, with what was given beside it.

    Args:
        directory: of the model.

    Raises:
        ValueError: if a file is missing, damaged or of another version, if its arrays
            do not fit the model, or this process has no 64-bit numbers and it needs
            them; names file and field, expected and found, and what to do.
    """
    folder = Path(directory)
    record = _folder.read_record(folder)
    where = str(folder / _folder.RECORD)
    kind = record["kind"]
    if kind not in KINDS:
        raise ValueError(
            f"{where}: field 'kind' should be one of {list(KINDS)}, got {kind!r}. Use "
            f"the version of qejax that saved it."
        )
    shapes = {name: (tuple(s), k) for name, (s, k) in record["arrays"].items()}
    wide = [k for k in _under(MODEL, shapes) if shapes[f"{MODEL}{k}"][1] == "F64"]
    if wide and jax.dtypes.canonicalize_dtype(np.float64) != np.float64:
        raise ValueError(
            f"{where}: array {wide[0]!r} is of float64, got a process of float32. "
            f"Call jax.config.update('jax_enable_x64', True) first."
        )
    # Checksums come first: building a model takes longer.
    content = _folder.read_content(folder, record, WEIGHTS)
    build = builder(kind, record["arguments"])
    shaped = nnx.eval_shape(lambda: build(counted(0)))
    _check_fit(where, shaped, shapes, record["derived"])
    stored = _weights_file.from_bytes(str(folder / WEIGHTS), content, shapes)
    leaves = _under(MODEL, stored)
    leaves |= _again(where, kind, shaped, record["derived"])
    model = _with_leaves(shaped, leaves)
    return Saved(model, record["notes"], _under(BESIDE, stored))


def _under(beginning: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    size = len(beginning)
    return {k[size:]: x for k, x in arrays.items() if k.startswith(beginning)}


def _leaves(model: nnx.Module) -> dict[str, Any]:
    """Arrays of a model, or their shapes, by path."""
    return _trees.flatten(nnx.to_pure_dict(nnx.state(model)))


def _derived(kind: str, path: str, model: Any, dtype: Any) -> np.ndarray:
    """An array that follows from the arguments of a model, of the type that it had."""
    with jax.enable_x64(np.dtype(dtype) == np.float64):
        return np.asarray(KINDS[kind].derived[path](model))


def _check_fit(
    where: str,
    shaped: nnx.Module,
    shapes: _weights_file.Shapes,
    derived: Mapping[str, Any],
) -> None:
    """Raises unless there is an array for every leaf of the model."""
    expected = _leaves(shaped)
    nothing = jax.ShapeDtypeStruct((), bool)
    got: dict[str, Any] = {path: expected.get(path, nothing) for path in derived}
    for path, (shape, name) in _under(MODEL, shapes).items():
        dtype = _weights_file.DTYPES[name]
        got[path] = jax.ShapeDtypeStruct(shape, dtype)
        if path in expected and jnp.issubdtype(dtype, jnp.floating):
            # Precision is that of the model which was saved.
            like = expected[path]
            if jnp.issubdtype(like.dtype, jnp.floating):
                expected[path] = jax.ShapeDtypeStruct(like.shape, dtype)
    difference = _trees.describe_difference(expected, got)
    if difference is not None:
        raise ValueError(
            f"{where}: field 'arrays' does not fit a {type(shaped).__name__} of the "
            f"field 'arguments': {difference}. Use the version of qejax that saved it."
        )


def _again(
    where: str, kind: str, shaped: Any, derived: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Computes what follows from the arguments; it has to begin as it did."""
    found = {}
    for path, row in derived.items():
        found[path] = _derived(kind, path, shaped, row["dtype"])
        begins = found[path].reshape(-1)[:BEGINNING]
        if not np.allclose(begins, row["begins"], rtol=1e-3, atol=1e-4):
            raise ValueError(
                f"{where}: {path!r} should begin with {row['begins'][:2]}, as the "
                f"model was trained with, got {begins[:2].tolist()}. Use the versions "
                f"that it was saved by, and JAX's default random numbers."
            )
    return found


def _with_leaves(shaped: nnx.Module, leaves: Mapping[str, np.ndarray]) -> Any:
    graph, state = nnx.split(shaped)
    pure = nnx.to_pure_dict(state)
    paths, structure = jax.tree_util.tree_flatten_with_path(pure)
    arrays = [jnp.asarray(leaves[_trees.path_of(path)]) for path, _ in paths]
    return nnx.merge(graph, jax.tree_util.tree_unflatten(structure, arrays))
