"""Rules of the grammar with loops, branches and wrappers around functions."""

from tests.derive.writer import Writer, operation

SEQUENCE, VECTOR = (3,), (2,)


def _scanned(w: Writer, x: str, step: str, start: str) -> str:
    """All states `[N, T, n]`, or the last one `[N, n]`."""
    name = w.name("step")
    w.define(f"def {name}(c, x):\n{step}")
    turned = w.let(f"jnp.swapaxes({x}, 0, 1)")
    options = w.pick(["", "", ", reverse=True"])
    if w.chance(0.5):
        states = w.let(f"lax.scan({name}, {start}, {turned}{options})[1]")
        return w.let(f"jnp.swapaxes({states}, 0, 1)")
    end = f"lax.scan({name}, {start}, {turned}{options})[0]"
    return w.let(f"{end}[0]" if start.startswith("(") else end)


@operation("simple recurrence", SEQUENCE, often=1.5)
def rnn(w: Writer, x: str) -> str:
    d, n = w.units(x), w.width()
    text = f"x @ {w.new((d, n))} + c @ {w.new((n, n))} + {w.new((n,), 'bias')}"
    step = f"    s = {text}\n    h = {w.activation('s')}\n    return 0.7 * h, h"
    start = f"jnp.zeros(({x}.shape[0], {n}), {x}.dtype)"
    if w.chance(0.4):
        start = f"jnp.broadcast_to({w.new((n,), 'bias')}, ({x}.shape[0], {n}))"
    return _scanned(w, x, step, start)


@operation("gated recurrence", SEQUENCE, often=1.5)
def gru(w: Writer, x: str) -> str:
    d, n = w.units(x), w.pick([2, 3])
    a, b, c = w.new((d, 3 * n)), w.new((n, 2 * n)), w.new((n, n))
    bias = w.new((3 * n,), "bias")
    step = (
        f"    i = x @ {a} + {bias}\n"
        f"    r, u = jnp.split(nn.sigmoid(i[:, :{2 * n}] + c @ {b}), 2, -1)\n"
        f"    new = jnp.tanh(i[:, {2 * n}:] + r * (c @ {c}))\n"
        f"    h = u * c + (1 - u) * new\n"
        f"    return h, h"
    )
    return _scanned(w, x, step, f"jnp.zeros(({x}.shape[0], {n}), {x}.dtype)")


@operation("long recurrence", SEQUENCE, often=1.5)
def lstm(w: Writer, x: str) -> str:
    d, n = w.units(x), w.pick([2, 3])
    a, b, bias = w.new((d, 4 * n)), w.new((n, 4 * n)), w.new((4 * n,), "bias")
    step = (
        f"    h, m = c\n"
        f"    i, f, o, g = jnp.split(x @ {a} + h @ {b} + {bias}, 4, -1)\n"
        f"    m = nn.sigmoid(f) * m + nn.sigmoid(i) * jnp.tanh(g)\n"
        f"    h = nn.sigmoid(o) * jnp.tanh(m)\n"
        f"    return (h, m), h"
    )
    zeros = f"jnp.zeros(({x}.shape[0], {n}), {x}.dtype)"
    return _scanned(w, x, step, f"({zeros}, {zeros})")


@operation("diagonal recurrence", SEQUENCE)
def diagonal(w: Writer, x: str) -> str:
    n = w.width()
    h = w.let(w.layer(x, n))
    decay = w.new((n,), "scale")
    step = f"    h = 0.5 * {decay} * c + x\n    return h, h"
    return _scanned(w, h, step, f"jnp.zeros(({x}.shape[0], {n}), {x}.dtype)")


@operation("loop with a counter", VECTOR)
def fori(w: Writer, x: str) -> str:
    d = w.units(x)
    name, kernel, bias = w.name("body"), w.new((d, d)), w.new((d,), "bias")
    inner = w.pick(["jnp.tanh({})", "nn.relu({})", "nn.gelu({})", "jnp.sin({})"])
    text = inner.format(f"h @ {kernel} + {bias}")
    way = w.pick([f"{text}", f"h + {text}", f"{text} + 0.1 * i"])
    w.define(f"def {name}(i, h):\n    return {way}")
    return w.let(f"lax.fori_loop(0, 2, {name}, {x})")


@operation("loop with a condition", VECTOR)
def while_loop(w: Writer, x: str) -> str:
    d = w.units(x)
    name, kernel = w.name("body"), w.new((d, d))
    w.define(
        f"def {name}(c):\n    i, h = c\n    return i + 1, jnp.tanh(h @ {kernel}) + h"
    )
    return w.let(f"lax.while_loop(lambda c: c[0] < 2, {name}, (0, {x}))[1]")


@operation("scan over stacked layers", (2, 3), often=2)
def stacked(w: Writer, x: str) -> str:
    d, n, name = w.units(x), w.width(), w.name("layer")
    layers = w.pick([2, 3])
    up, down = w.new((layers, d, n)), w.new((layers, n, d))
    bias = w.new((layers, n), "bias")
    act = w.activation("s")
    w.define(
        f"def {name}(h, p):\n"
        f"    s = h @ p[0] + p[1]\n"
        f"    return h + 0.7 * ({act}) @ p[2], None"
    )
    return w.let(f"lax.scan({name}, {x}, ({up}, {bias}, {down}))[0]")


@operation("scan over stacked square layers", (2, 3))
def stacked_square(w: Writer, x: str) -> str:
    """Every layer reads the units of the one before."""
    d, name = w.units(x), w.name("layer")
    kernels, act = w.new((2, d, d)), w.activation("s")
    w.define(f"def {name}(h, k):\n    s = h @ k\n    return {act}, None")
    return w.let(f"lax.scan({name}, {x}, {kernels})[0]")


@operation("unrolled stacked layers", (2, 3))
def unrolled(w: Writer, x: str) -> str:
    d = w.units(x)
    kernels = w.new((2, d, d))
    h = w.let(w.activation(w.let(f"{x} @ {kernels}[0]")))
    return w.let(w.activation(w.let(f"{h} @ {kernels}[1]")))


@operation("branches", VECTOR, often=1.5)
def cond(w: Writer, x: str) -> str:
    n = w.width()
    h, source = w.let(w.layer(x, n)), "z" if "z" in w.env else "x"
    test = f"jnp.mean({source}) > 0" if w.env[source].dtype == float else "True"
    same = w.chance(0.5)
    w.used.append("branches, equal" if same else "branches, of other activations")
    first = w.activation("h")
    second = f"2.0 * ({first})" if same else w.activation("h")
    kernel = w.new((n, n)) if w.chance(0.4) else None
    if kernel is not None:
        first, second = f"({first}) @ {kernel}", f"({second}) @ {kernel}"
    return w.let(f"lax.cond({test}, lambda h: {first}, lambda h: {second}, {h})")


@operation("switch", VECTOR)
def switch(w: Writer, x: str) -> str:
    h = w.let(w.layer(x, w.width()))
    ways = ", ".join(f"lambda h: {w.activation('h')}" for _ in range(3))
    return w.let(f"lax.switch(({h}.shape[0] + 1) % 3, [{ways}], {h})")


@operation("chosen by select", (2, 3))
def select(w: Writer, x: str) -> str:
    n = w.width()
    a, b = w.hidden(x, n), w.hidden(x, n)
    where = w.pick([f"{a} > {b}", f"{x}[..., :1] > 0"])
    return w.let(f"jnp.where({where}, {a}, {b})")


@operation("wrapped function", (2, 3, 4), often=2)
def wrapped(w: Writer, x: str) -> str:
    name, n = w.name("block"), w.width()
    kernel, bias = w.new((w.units(x), n)), w.new((n,), "bias")
    act = w.activation("s")
    way = w.pick(["jax.checkpoint", "jax.jit", "jax.named_call"])
    w.used.append(f"wrapped by {way}")
    w.define(f"def {name}(h, k, b):\n    s = h @ k + b\n    return {act}")
    return w.let(f"{way}({name})({x}, {kernel}, {bias})")


SLOPES = {
    "jnp.tanh(x)": "1 - jnp.tanh(x) ** 2",
    "nn.relu(x)": "(x > 0).astype(x.dtype)",
    "x * nn.sigmoid(x)": "nn.sigmoid(x) * (1 + x * (1 - nn.sigmoid(x)))",
}
"""Functions and their derivatives."""


@operation("function with its own derivative")
def own_derivative(w: Writer, x: str) -> str:
    name, inner = w.name("act"), w.pick([*SLOPES])
    w.define(
        f"@jax.custom_jvp\ndef {name}(x):\n    return {inner}\n"
        f"{name}_slope = lambda x: {SLOPES[inner]}\n"
        f"{name}.defjvp(lambda p, t: ({name}(p[0]), t[0] * {name}_slope(p[0])))"
    )
    return w.let(f"{name}({w.let(w.layer(x, w.width()))})")


@operation("mapped over the batch", (2, 3))
def mapped(w: Writer, x: str) -> str:
    name, n = w.name("one"), w.width()
    kernel, act = w.new((w.units(x), n)), w.activation("s")
    w.define(f"def {name}(h):\n    s = h @ {kernel}\n    return {act}")
    return w.let(w.pick([f"jax.vmap({name})({x})", f"lax.map({name}, {x})"]))
