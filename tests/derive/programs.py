"""Random programs: small networks as pure functions, drawn from a grammar.

They are meant to be hard to read correctly: widths that are equal by accident, weights
that two places share, units with two readers, arrays that are cut, turned and put
together. `python -m tests.derive.programs SEED` prints one.
"""

import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

# Importing them fills the grammar.
import tests.derive.grammar_axes
import tests.derive.grammar_control
import tests.derive.grammar_units  # noqa: F401
from tests.derive.writer import (
    ACTIVATIONS,
    MODULES,
    OPERATIONS,
    TooLarge,
    Writer,
)
from tests.layer_specs import fast_jit

MOST = 390
"""Weights of a program."""

ENDS = (
    "embedding lookup",
    "embedding by one_hot",
    "head, none",
    "head, dense",
    "head, tied",
    "head, several arrays",
)

EVERYTHING = frozenset(
    {
        *OPERATIONS,
        *ACTIVATIONS,
        *ENDS,
        "weights used twice",
        "weights used transposed",
        "a row of a kernel as bias",
        *(f"attention, {kind}" for kind in ("none", "causal", "masked")),
        *(f"heads, {way}" for way in ("per head", "shared", "transposed")),
        *(
            f"convolution, {kind}"
            for kind in ("plain", "strided", "dilated", "grouped", "depthwise")
        ),
        *(f"branches, {kind}" for kind in ("equal", "of other activations")),
        *(
            f"wrapped by {way}"
            for way in ("jax.checkpoint", "jax.jit", "jax.named_call")
        ),
    }
)
"""All that can be drawn, by name."""


class Program(NamedTuple):
    """A network that was drawn.

    Attributes:
        apply: `(theta, *inputs) -> outputs`, an array or several.
        theta: its weights by name, of float64, generic.
        inputs: `[N, ...]` each; numbers, or tokens.
        text: the program, as it is run.
        used: names of the rules that were drawn.
        more: `number -> inputs`, as many and others.
    """

    apply: Callable[..., Any]
    theta: dict[str, jax.Array]
    inputs: tuple[jax.Array, ...]
    text: str
    used: tuple[str, ...]
    more: Callable[[int], tuple[jax.Array, ...]]


def program(seed: int) -> Program:
    """Draws a program: the same for the same seed, of weights that matter."""
    for attempt in range(100):
        drawn = _draw([seed, attempt])
        if drawn is not None and _lives(drawn):
            return drawn
    raise AssertionError(f"no program of seed {seed} has outputs that vary")


def _draw(seed: list[int]) -> Program | None:
    w = Writer(seed, MOST)
    shapes = _inputs(w)
    batch = int(w.draw.integers(3, 7))
    w.env = {name: _struct(batch, shape) for name, shape in shapes.items()}
    with jax.numpy_rank_promotion("allow"):
        x, table = _begin(w)
        # Two to twelve, few more often: long chains lose what was far before.
        steps = int(np.min(w.draw.integers(2, 13, 2)))
        # A second input is read somewhere.
        reads = int(w.draw.integers(steps)) if "z" in w.env else None
        for number in range(steps):
            x = _step(w, x, "film" if number == reads else None)
        outputs = _end(w, x, table)
    if outputs is None:
        return None
    head = f"def apply(theta, {', '.join(shapes)}):"
    lines = [line for block in _read(w.lines, outputs) for line in block.splitlines()]
    text = "\n    ".join([head, *lines, f"return {outputs}"]) + "\n"
    names = dict(MODULES)
    exec(text, names)
    run = names["apply"]

    def apply(theta: Any, *inputs: Any) -> Any:
        # As users write it: the suite's flag is for code of the library.
        with jax.numpy_rank_promotion("allow"):
            return run(theta, *inputs)

    def more(number: int) -> tuple[jax.Array, ...]:
        return tuple(
            _values(np.random.default_rng([*seed, 7, n]), number, shape)
            for n, shape in enumerate(shapes.values())
        )

    theta = {name: jnp.asarray(value) for name, value in w.theta.items()}
    return Program(apply, theta, more(batch), text, tuple(w.used), more)


def _read(statements: list[str], outputs: str) -> list[str]:
    """The statements that something reads; other weights would move freely."""
    kept, read = [], {outputs}
    for statement in reversed(statements):
        name = re.match(r"(?:@jax.custom_jvp\s+)?(?:def )?(\w+)", statement)
        assert name is not None
        if any(re.search(rf"\b{name[1]}\b", text) for text in read):
            kept.append(statement)
            read.add(statement)
    return kept[::-1]


def _lives(one: Program) -> bool:
    """Whether all weights are read, and outputs finite, of usual size, and vary."""
    if not all(f'theta["{name}"]' in one.text for name in one.theta):
        return False
    for y in jax.tree.leaves(fast_jit(one.apply)(one.theta, *one.inputs)):
        y = np.asarray(y)
        if not np.all(np.isfinite(y)) or np.max(np.abs(y)) > 1e4 or np.ptp(y) < 1e-3:
            return False
    return True


VOCABULARY = 5


def _inputs(w: Writer) -> dict[str, tuple[int, ...] | int]:
    """Shapes of the inputs without the batch; a number counts tokens."""
    kind = w.pick(["vector", "sequence", "image"] * 2 + ["tokens"])
    sizes = {
        "vector": (w.width(),),
        "sequence": (w.pick([2, 3, 4]), w.width()),
        "image": (*w.pick([(4, 4), (4, 3), (5, 4)]), w.pick([1, 2, 4])),
        "tokens": w.pick([2, 3, 4]),
    }
    second = {"z": (w.width(),)} if w.chance(0.3) else {}
    return {"x": sizes[kind], **second}


def _struct(batch: int, shape: tuple[int, ...] | int) -> jax.ShapeDtypeStruct:
    if isinstance(shape, int):
        return jax.ShapeDtypeStruct((batch, shape), jnp.int32)
    return jax.ShapeDtypeStruct((batch, *shape), jnp.float64)


def _values(
    draw: np.random.Generator, number: int, shape: tuple[int, ...] | int
) -> jax.Array:
    if isinstance(shape, int):
        return jnp.asarray(draw.integers(VOCABULARY, size=(number, shape)), jnp.int32)
    return jnp.asarray(1.5 * draw.normal(size=(number, *shape)))


def _begin(w: Writer) -> tuple[str, str | None]:
    """The first variable, and the table of tokens if there is one."""
    if w.env["x"].dtype != jnp.int32:
        return "x", None
    table = w.new((VOCABULARY, w.width()))
    ways = {
        "embedding lookup": w.pick([f"{table}[x]", f"jnp.take({table}, x, axis=0)"]),
        "embedding by one_hot": f"nn.one_hot(x, 5, dtype={table}.dtype) @ {table}",
    }
    way = w.pick(["embedding lookup", "embedding lookup", "embedding by one_hot"])
    w.used.append(way)
    return w.let(ways[way]), table


def _step(w: Writer, x: str, wanted: str | None) -> str:
    """One operation more, or the same variable if none fits the budget."""
    fitting = [
        (name, one)
        for name, one in OPERATIONS.items()
        if len(w.shape(x)) in one.ranks and wanted in (None, name)
    ]
    often = np.array([one.often for _, one in fitting])
    for _ in range(5):
        number = w.draw.choice(len(fitting), p=often / often.sum())
        name, one = fitting[int(number)]
        before = w.snapshot()
        try:
            w.used.append(name)
            return one.write(w, x)
        except TooLarge:
            w.restore(before)
    return x


def _end(w: Writer, x: str, table: str | None) -> str | None:
    """What is returned, or nothing if no head fits."""
    kind = w.pick(["head, dense"] * 5 + ["head, none"] * 2 + ["head, several arrays"])
    tied = table is not None and w.shaped(table).shape[1] == w.units(x)
    if tied and w.chance(0.6):
        kind = "head, tied"
    w.used.append(kind)
    try:
        if kind == "head, dense":
            return w.let(w.layer(x, w.pick([1, 2, 3])))
        if kind == "head, tied":
            logits = w.let(f"{x} @ {table}.T")
            return w.pick([logits, f"3.0 * jnp.tanh({logits} / 3.0)"])
        if kind == "head, several arrays":
            return f"{w.let(w.layer(x, 2))}, {{'mean': {x}.mean(-1)}}"
    except TooLarge:
        return None
    return x


def main(arguments: list[str]) -> None:
    """Prints a program, and the shapes of its weights and inputs."""
    jax.config.update("jax_enable_x64", True)
    one = program(int(arguments[0]))
    print("import jax\nfrom jax import lax, nn, numpy as jnp\n\n")
    print(one.text)
    for name, value in one.theta.items():
        print(f"{name} {value.shape}", end="  ")
    shapes = ", ".join(f"{x.dtype} {x.shape}" for x in one.inputs)
    print(f"\n{sum(w.size for w in one.theta.values())} weights; inputs {shapes}")
    print("; ".join(one.used))


if __name__ == "__main__":
    main(sys.argv[1:])
