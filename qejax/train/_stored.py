"""Trees as checkpoints hold them: arrays on the host, by path, and checksums of them.

Typed keys are held as their data; leaves without entries are not held.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from qejax._devices import fetch
from qejax._trees import flatten


def _is_key(leaf: Any) -> bool:
    return jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _key_impl(like: Any) -> str:
    """Returns the generator of a typed key; `key_impl` itself wants an array."""
    names: list[str] = []
    jax.eval_shape(lambda key: names.append(str(jax.random.key_impl(key))), like)
    return names[0]


def abstract(template: Any) -> dict[str, Any]:
    """Returns shape and dtype by path of the leaves that are stored.

    Typed keys are stored as their data, `uint32` with a trailing axis.
    """
    leaves: dict[str, Any] = {}
    for path, leaf in flatten(template).items():
        data = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
        if 0 not in data.shape:
            leaves[path] = jax.ShapeDtypeStruct(data.shape, data.dtype)
    return leaves


def to_host(tree: Any) -> dict[str, np.ndarray]:
    """Returns host copies by path of the leaves that are stored."""
    leaves = flatten(tree)
    data = {
        path: jax.random.key_data(leaves[path])
        if _is_key(leaves[path])
        else leaves[path]
        for path in abstract(tree)
    }
    # A copy: on the CPU what is fetched may share the memory of the array.
    return {path: np.array(leaf) for path, leaf in fetch(data).items()}


def to_template(template: Any, leaves: dict[str, np.ndarray]) -> Any:
    """Returns stored leaves in the structure of the template."""
    filled: list[Any] = []
    for path, like in flatten(template).items():
        if path not in leaves:
            filled.append(np.empty(like.shape, like.dtype))
        elif _is_key(like):
            filled.append(
                jax.random.wrap_key_data(
                    jax.numpy.asarray(leaves[path]), impl=_key_impl(like)
                )
            )
        else:
            filled.append(leaves[path])
    return jax.tree.unflatten(jax.tree.structure(template), filled)


def digest(meta: Mapping[str, Any]) -> str:
    """The SHA-256 of a JSON object, however its keys are ordered."""
    text = json.dumps(meta, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def table(leaves: dict[str, np.ndarray]) -> dict[str, Any]:
    return {path: [list(a.shape), a.dtype.name] for path, a in leaves.items()}


def structs(table: dict[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the stored shapes and dtypes; bfloat16 and its kin have names in JAX."""
    return {
        path: jax.ShapeDtypeStruct(tuple(shape), jax.numpy.dtype(dtype))
        for path, (shape, dtype) in table.items()
    }


def checksum(leaves: dict[str, np.ndarray]) -> str:
    total = 0
    for path in sorted(leaves):
        total = zlib.crc32(path.encode(), total)
        total = zlib.crc32(np.ascontiguousarray(leaves[path]).tobytes(), total)
    return f"{total:08x}"
