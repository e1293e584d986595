"""Every exported layer and model under the transformations of JAX, and without Python.

Under `vmap` of a gradient and `scan` of a tangent with rematerialisation, both
compiled, on eight devices under `shard_map` (some with gradients, rematerialised, under
`vmap`), and exported for batches of any size, in a process that cannot import us.
Inside of Linen: `test_linen.py`.
"""

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qejax.testing import tolerance_of
from tests.compositions import BATCH, DIFFERENTIATED, RUN, inputs_of, of_all, pure
from tests.layer_specs import fast_jit
from tests.test_linen import CASES

ROUNDED = [name for name in CASES if "bfloat16" in name]
THOSE = [
    pytest.param(RUN, id="some"),
    pytest.param(tuple(CASES), id="all", marks=pytest.mark.slow),
]
RELOAD = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("qejax", "flax", "optax", "chex", "tests"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
import jax, numpy as np
saved = np.load(sys.argv[1])
run = jax.export.deserialize(bytearray(saved["program"].tobytes())).call
names = sorted({key.split("|")[0] for key in saved if "|" in key})
inputs = {n: [saved[k] for k in sorted(saved) if k.startswith(n + "|")] for n in names}
found = {}
for size in (8, 3):
    out = run(jax.tree.map(lambda x: x[:size], inputs))
    found |= {f"{size}|{name}": np.asarray(x) for name, x in out.items()}
try:
    import qejax
except ImportError:
    np.savez(sys.argv[2], **found)
"""


def tolerance(name: str) -> float:
    return tolerance_of("bfloat16" if name in ROUNDED else "float32")


def check(name: str, got: Any, expected: Any, all_of_them: Any = None) -> None:
    """Relative to the spread over networks, which has to be there."""
    every = expected if all_of_them is None else all_of_them
    spread = float(np.max(np.ptp(every, axis=0)))
    assert spread > 1e-3 * np.max(np.abs(every))
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance(name) * spread)


def flat(arrays: list[np.ndarray]) -> np.ndarray:
    """`[BATCH, n]`."""
    return np.concatenate([x.reshape(BATCH, -1) for x in arrays], 1)


@functools.cache
def gradients(name: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Values and gradients of a batch, by `vmap`."""
    case = pure(name)
    run = fast_jit(jax.vmap(jax.value_and_grad(case.fn)))
    return jax.tree.map(np.asarray, run(case.inputs))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.one_in(5)
def test_a_scan_of_tangents_is_a_batch_of_gradients(name: str) -> None:
    case = pure(name)
    along = [jnp.cos(3 * x) * x for x in case.inputs]

    def step(count: Any, both: Any) -> Any:
        x, t = both
        return count + 1, jax.jvp(jax.checkpoint(case.fn), (x,), (t,))

    run = fast_jit(lambda x, t: jax.lax.scan(step, 0, (x, t)))
    count, (values, tangents) = run(case.inputs, along)
    expected, found = gradients(name)
    assert count == BATCH
    check(name, values, expected)
    pairs = zip(found, along, strict=True)
    slopes = sum(np.sum((g * t).reshape(BATCH, -1), 1) for g, t in pairs)
    check(name, tangents, slopes)


def in_a_process(*command: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "JAX_ENABLE_X64": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("names", THOSE)
def test_eight_devices(names: tuple[str, ...], tmp_path: Path) -> None:
    flags = os.environ.get("XLA_FLAGS", "")
    count = f"{flags} --xla_force_host_platform_device_count=8"
    path = tmp_path / "values.npz"
    in_a_process("-m", "tests.compositions", str(path), *names, XLA_FLAGS=count)
    with np.load(path) as found:
        assert found["devices"].tolist() == [8]
        for name in names:
            check(name, found[name], gradients(name)[0])
        for name in DIFFERENTIATED:
            expected = gradients(name)[1]
            got = [found[f"{name}|{number:03d}"] for number in range(len(expected))]
            check(name, flat(got), flat(expected))


@pytest.mark.parametrize("names", THOSE)
def test_exported_and_run_without_us(names: tuple[str, ...], tmp_path: Path) -> None:
    """One program for all platforms and batch sizes; nothing of Python is left."""
    (b,) = jax.export.symbolic_shape("b")
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((b, *x.shape[1:]), x.dtype), inputs_of(names)
    )
    exported = jax.export.export(jax.jit(of_all), platforms=("cpu", "cuda", "tpu"))
    program = np.frombuffer(exported(shapes).serialize(), np.uint8)
    source, result = tmp_path / "program.npz", tmp_path / "values.npz"
    inputs = {
        f"{name}|{number:03d}": np.asarray(x)
        for name, xs in inputs_of(names).items()
        for number, x in enumerate(xs)
    }
    saved: dict[str, Any] = {"program": program, **inputs}
    np.savez(source, **saved)
    in_a_process("-c", RELOAD, str(source), str(result))
    with np.load(result) as found:
        for name in names:
            for size in (8, 3):
                expected = gradients(name)[0]
                got = found[f"{size}|{name}"]
                check(name, got, expected[:size], expected)
