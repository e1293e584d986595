"""What writes a random program: lines of Python, weights, and the shapes so far.

A program is its text: every statement is written as a person would write it and run
from there, so that one that fails can be pasted into a file.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

MODULES: dict[str, Any] = {"jax": jax, "jnp": jnp, "lax": jax.lax, "nn": jax.nn}
"""What the text of a program may use."""

ACTIVATIONS: dict[str, str] = {
    "identity": "{x}",
    "relu": "nn.relu({x})",
    "leaky_relu": "nn.leaky_relu({x}, 0.1)",
    "tanh": "jnp.tanh({x})",
    "sine": "jnp.sin(2.0 * {x})",
    "cosine": "jnp.cos({x})",
    "gelu": "nn.gelu({x})",
    "gelu, exact": "nn.gelu({x}, approximate=False)",
    "silu": "nn.silu({x})",
    "sigmoid": "nn.sigmoid({x})",
    "softplus": "nn.softplus({x})",
    "abs": "jnp.abs({x})",
    "square": "jnp.square({x})",
    "relu^2": "jnp.square(nn.relu({x}))",
    "gaussian": "jnp.exp(-jnp.square({x}))",
    "hard swish": "nn.hard_swish({x})",
    "elu": "nn.elu({x})",
    "relu6": "nn.relu6({x})",
    "softsign": "nn.soft_sign({x})",
    "clip": "jnp.clip({x}, -1.0, 1.0)",
    "cube": "({x}) ** 3",
    "where": "jnp.where({x} > 0, {x}, 0.3 * {x})",
    "relu by maximum": "jnp.maximum({x}, 0.0)",
    "mish": "{x} * jnp.tanh(nn.softplus({x}))",
}
"""Elementwise functions by name; `{x}` is a name or stands in brackets."""


class TooLarge(Exception):
    """An operation that does not fit what is left of the budget."""


class Operation(NamedTuple):
    """One rule of the grammar.

    Attributes:
        write: `(writer, x) -> name`; writes statements that read the variable `x`.
        ranks: of the arrays that it reads: 2 `[N, d]`, 3 `[N, T, d]`, 4 `[N, H, W, d]`.
        often: relative to others.
    """

    write: Callable[["Writer", str], str]
    ranks: tuple[int, ...]
    often: float


OPERATIONS: dict[str, Operation] = {}
"""The grammar by name; files of rules fill it."""

ANY = (2, 3, 4)


def operation(name: str, ranks: tuple[int, ...] = ANY, often: float = 1.0) -> Any:
    """Adds a rule to the grammar."""

    def add(write: Callable[["Writer", str], str]) -> Callable[["Writer", str], str]:
        OPERATIONS[name] = Operation(write, ranks, often)
        return write

    return add


class Writer:
    """A program that is being written.

    Attributes:
        draw: where all choices come from.
        lines: statements so far, a definition as one.
        theta: weights so far, by name.
        env: shapes and dtypes of the variables.
        used: names of the rules that were drawn, and of what they drew.
    """

    def __init__(self, seed: list[int], most: int) -> None:
        self.draw = np.random.default_rng(seed)
        self.most = most
        # By accident: in half of all programs all widths are equal.
        self.widths = [4] if self.draw.random() < 0.5 else [2, 3, 4, 5, 6]
        self.lines: list[str] = []
        self.defined: list[str] = []
        self.theta: dict[str, np.ndarray] = {}
        self.env: dict[str, jax.ShapeDtypeStruct] = {}
        self.used: list[str] = []
        self.number = 0

    def snapshot(self) -> Any:
        """What `restore` takes; the generator goes on."""
        return (
            [*self.lines],
            [*self.defined],
            {**self.theta},
            {**self.env},
            [*self.used],
            self.number,
        )

    def restore(self, state: Any) -> None:
        """Forgets what was written since."""
        lines, defined, theta, env, used, self.number = state
        self.lines, self.defined, self.used = lines, defined, used
        self.theta, self.env = theta, env

    def pick(self, options: Any) -> Any:
        """One of several, each as likely."""
        return options[int(self.draw.integers(len(options)))]

    def chance(self, share: float) -> bool:
        """True so often."""
        return bool(self.draw.random() < share)

    def width(self) -> int:
        """The width of a layer."""
        return self.pick(self.widths)

    def shape(self, x: str) -> tuple[int, ...]:
        """Of a variable."""
        return self.env[x].shape

    def units(self, x: str) -> int:
        """How many units a variable has."""
        return self.shape(x)[-1]

    def name(self, letter: str) -> str:
        """A new name."""
        self.number += 1
        return f"{letter}{self.number}"

    def let(self, text: str, shape: tuple[int, ...] | None = None) -> str:
        """Writes `name = text`; returns the name. A known shape saves time."""
        name = self.name("h")
        self.env[name] = (
            self.shaped(text)
            if shape is None
            else jax.ShapeDtypeStruct(shape, jnp.float64)
        )
        if math.prod(self.env[name].shape[1:]) > 120:
            raise TooLarge(text)
        self.lines.append(f"{name} = {text}")
        return name

    def define(self, text: str) -> None:
        """Writes the definition of a function."""
        self.defined.append(text)
        self.lines.append(text)

    def shaped(self, text: str) -> Any:
        """Shape and dtype of an expression."""

        def run(theta: Any, env: Any) -> Any:
            names = {**MODULES, **env, "theta": theta}
            for definition in self.defined:
                exec(definition, names)
            return eval(text, names)

        return jax.eval_shape(run, self.theta, self.env)

    def weight(self, *shape: int, kind: str = "kernel") -> str:
        """Returns the text of weights of a shape: new ones, or those of another place.

        Kinds: "kernel" (normal, by fan-in), "bias", "scale" (positive, around 1).
        """
        old = [name for name, w in self.theta.items() if w.shape == shape]
        if old and kind != "scale" and self.chance(0.06):
            self.used.append("weights used twice")
            return f'theta["{self.pick(old)}"]'
        turned = [name for name, w in self.theta.items() if w.shape == shape[::-1]]
        if len(shape) == 2 and turned and self.chance(0.06):
            self.used.append("weights used transposed")
            return f'theta["{self.pick(turned)}"].T'
        rows = [
            name
            for name, w in self.theta.items()
            if w.ndim == 2 and w.shape[1:] == shape
        ]
        if kind == "bias" and rows and self.chance(0.04):
            self.used.append("a row of a kernel as bias")
            return f'theta["{self.pick(rows)}"][0]'
        return self.new(shape, kind)

    def new(self, shape: tuple[int, ...], kind: str = "kernel") -> str:
        """Weights that no other place has."""
        if sum(w.size for w in self.theta.values()) + math.prod(shape) > self.most:
            raise TooLarge(str(shape))
        name = self.name({"kernel": "w", "bias": "b", "scale": "g"}[kind])
        if kind == "kernel":
            fan = math.prod(shape[:-1]) or 1
            self.theta[name] = self.draw.normal(size=shape) * 1.2 / math.sqrt(fan)
        elif kind == "bias":
            self.theta[name] = self.draw.uniform(-0.6, 0.6, shape)
        else:
            self.theta[name] = self.draw.uniform(0.6, 1.6, shape)
        return f'theta["{name}"]'

    def layer(self, x: str, width: int, often_bias: float = 0.75) -> str:
        """Returns the text of a dense layer of one of several spellings."""
        d = self.units(x)
        way = self.pick(["@"] * 4 + ["einsum", "stored [out, in]", "dot_general"])
        if way == "stored [out, in]":
            text = f"{x} @ {self.weight(width, d)}.T"
        elif way == "einsum":
            kernel = self.weight(d, width)
            text = f'jnp.einsum("...i,io->...o", {x}, {kernel})'
        elif way == "dot_general":
            last = len(self.shape(x)) - 1
            dims = f"((({last},), (0,)), ((), ()))"
            text = f"lax.dot_general({x}, {self.weight(d, width)}, {dims})"
        else:
            text = f"{x} @ {self.weight(d, width)}"
        if self.chance(often_bias):
            text += f" + {self.weight(width, kind='bias')}"
        return text

    def activation(self, x: str) -> str:
        """Returns the text of an elementwise function of a variable."""
        name = self.pick([*ACTIVATIONS])
        self.used.append(name)
        return ACTIVATIONS[name].format(x=x)

    def hidden(self, x: str, width: int | None = None) -> str:
        """Writes a dense layer and an activation."""
        width = self.width() if width is None else width
        shape = (*self.shape(x)[:-1], width)
        return self.let(self.activation(self.let(self.layer(x, width), shape)), shape)

    def constant(self, *shape: int) -> str:
        """The text of fixed numbers that are all different."""
        values = np.round(self.draw.uniform(0.3, 1.9, shape), 3)
        return f"jnp.array({values.tolist()})"
