"""How close does moving a whole zoo by group elements come to reading and writing it?

`jax.vmap(act)` over a stack of networks, one element each, against an elementwise pass
(`x * 1.0001 + 0.5`) over the same tree: both read and write every weight once. Beside
it the ways to permute that were not taken. Every way is checked against the dense
matrices of its element before it is timed. `cpu_ratio` compares the processor time that
all threads spent, which other work on the machine changes least.

    python -m benchmarks.bench_act
"""

import argparse
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import harness
from benchmarks.harness import Record, Subject
from qejax import nets, spaces
from qejax._trees import nest
from qejax.groups import GROUPS
from qejax.spaces import Elements, Leaf, WeightSpec
from qejax.spaces._move import multiply_axes

QUESTION = str(__doc__).splitlines()[0]
AIM = 0.7
CASES: dict[str, tuple[WeightSpec, int]] = {
    "cnn_zoo": (nets.cnn_spec(1, (16, 16, 16), windows=3, strides=2), 4096),
    "mlp_32": (nets.mlp_spec((64, 32, 32, 10)), 4096),
    "mlp_128": (nets.mlp_spec((64, 128, 128, 10)), 512),
}
"""By name, what is moved and how many networks; the aim is set for the first."""

Permute = Callable[[Any, dict[int, Any]], Any]
_GET = {"mode": "promise_in_bounds", "wrap_negative_indices": False}


def elementwise(g: Elements, theta: Any) -> Any:
    """The yardstick: no element, one pass."""
    del g
    return jax.tree.map(lambda x: x * 1.0001 + 0.5, theta)


def gather_per_axis(x: Any, perms: dict[int, Any]) -> Any:
    """One gather after another."""
    for axis, perm in perms.items():
        x = x.at[(slice(None),) * axis + (perm,)].get(**_GET)
    return x


def one_flat_index(x: Any, perms: dict[int, Any]) -> Any:
    """One gather along the flattened axes from the first one that moves."""
    start = min(perms)
    tail = x.shape[start:]
    index = jnp.zeros(tail, jnp.int32)
    for axis, size in enumerate(tail):
        stride = int(np.prod(tail[axis + 1 :]))
        step = perms.get(start + axis, jnp.arange(size)).astype(jnp.int32) * stride
        index = index + step.reshape((-1,) + (1,) * (len(tail) - axis - 1))
    flat = x.reshape((*x.shape[:start], -1))
    return flat.at[..., index.ravel()].get(**_GET).reshape(x.shape)


OTHERS: dict[str, Permute] = {
    "gather_per_axis": gather_per_axis,
    "one_flat_index": one_flat_index,
    "one_hot_products": multiply_axes,
}


def act_with(permute: Permute, spec: WeightSpec) -> Callable[[Elements, Any], Any]:
    """`spaces.act` with another way to permute."""

    def leaf_with(leaf: Leaf, g: Elements, x: Any) -> Any:
        perms, factors = {}, {}
        for position in leaf.moved():
            axis = leaf.axes[position]
            space = spec.space_by_name[str(axis.space)]
            monomial = GROUPS[space.group].monomial
            assert monomial is not None
            perm, factor = monomial(g[space.name], axis.power)
            perms[position], factors[position] = perm, factor
        if perms:
            x = permute(x, perms)
        for position, factor in factors.items():
            shape = (-1,) + (1,) * (x.ndim - position - 1)
            x = x if factor is None else x * factor.reshape(shape)
        return x

    def act(g: Elements, theta: Any) -> Any:
        leaves = spaces.views(spec, theta)
        moved = {
            leaf.path: leaf_with(leaf, g, leaves[leaf.path]) for leaf in spec.leaves
        }
        return spaces.from_views(spec, moved, theta)

    return act


def data(spec: WeightSpec, networks: int) -> tuple[Elements, Any]:
    """A stack of elements and of weights, float32."""
    keys = jax.random.split(jax.random.key(0), networks)
    g = jax.jit(jax.vmap(lambda key: spaces.sample(key, spec, 10.0)))(keys)
    draw = np.random.default_rng(0)
    leaves = {
        leaf.path: jnp.asarray(
            draw.standard_normal((networks, *leaf.stored), np.float32)
        )
        for leaf in spec.leaves
    }
    return g, nest(leaves)


def by_matrices(spec: WeightSpec, leaf: Leaf, g: Elements, x: Any) -> np.ndarray:
    """The answer in float64: the dense matrix of each axis, one after another."""
    moved = np.asarray(x, np.float64)
    for position in leaf.moved():
        axis = leaf.axes[position]
        space = spec.space_by_name[str(axis.space)]
        matrix = np.asarray(GROUPS[space.group].matrix(g[space.name], axis.power))
        moved = np.moveaxis(np.tensordot(matrix, moved, (1, position)), 0, position)
    return moved


def subjects(spec: WeightSpec, g: Elements, theta: Any) -> list[Subject]:
    """The yardstick, `act`, and the others, compiled and with their check."""
    first, last = (
        jax.tree.map(lambda leaf, row=row: leaf[row], (g, theta)) for row in (0, -1)
    )

    def check(out: Any) -> Mapping[str, object]:
        gap = 0.0
        for row, (element, weights) in ((0, first), (-1, last)):
            moved = jax.tree.map(lambda leaf, row=row: leaf[row], out)
            got, old = (spaces.views(spec, tree) for tree in (moved, weights))
            for leaf in spec.leaves:
                expected = by_matrices(spec, leaf, element, old[leaf.path])
                error = np.abs(np.asarray(got[leaf.path]) - expected)
                gap = max(gap, float(np.max(error / np.abs(expected))))
        assert gap < 1e-5, f"gap to the dense matrices {gap:.1e}"
        return {"gap_to_dense_matrices": gap}

    ways = {"act": functools.partial(spaces.act, spec)}
    ways |= {name: act_with(permute, spec) for name, permute in OTHERS.items()}
    return [harness.compile_jitted("elementwise", elementwise, g, theta)] + [
        harness.compile_jitted(name, jax.vmap(way), g, theta, check=check)
        for name, way in ways.items()
    ]


def cpu_seconds(rows: list[Subject], repeats: int) -> dict[str, float]:
    """Least processor time of one call, all threads together."""
    spent: dict[str, list[float]] = {row.name: [] for row in rows}
    for _ in range(repeats):
        for row in rows:
            start = time.process_time()
            row.call()
            spent[row.name].append(time.process_time() - start)
    return {name: min(times) for name, times in spent.items()}


def run_case(spec: WeightSpec, networks: int, repeats: int) -> Record:
    """All ways on one weight space."""
    g, theta = data(spec, networks)
    rows = subjects(spec, g, theta)
    records = harness.time_subjects(rows, repeats=repeats)
    right = [row for row in rows if records[row.name]["status"] == "ok"]
    spent = cpu_seconds(right, 2 * repeats)
    moved = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(theta))
    base = records["elementwise"]
    for name, seconds in spent.items():
        record = records[name]
        record["cpu_seconds"] = seconds
        record["bytes_per_second"] = moved / record["min_seconds"]
        record["min_ratio"] = base["min_seconds"] / record["min_seconds"]
        record["median_ratio"] = base["median_seconds"] / record["median_seconds"]
        record["cpu_ratio"] = spent["elementwise"] / seconds
    return {
        "networks": networks,
        "parameters": spec.num_parameters,
        "bytes_read_and_written": moved,
        "ways": records,
    }


def main() -> None:
    """Runs all cases and writes `results/act.json`."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    stamp = harness.stamp()  # before the benchmark itself raises the load average
    cases = {}
    for name, (spec, networks) in CASES.items():
        print(name)
        cases[name] = run_case(spec, networks, options.repeats)
    ways = cases["cnn_zoo"]["ways"]
    keys = ("min_ratio", "median_ratio", "cpu_ratio")
    answer = {key: ways["act"].get(key) for key in keys}
    record = {
        "question": QUESTION,
        "stamp": stamp,
        "aim": AIM,
        "answer": answer,
        "cases": cases,
    }
    print(answer, harness.save("act", record).name)


if __name__ == "__main__":
    main()
