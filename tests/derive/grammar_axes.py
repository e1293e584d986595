"""Rules of the grammar on positions: sequences, heads and images."""

from tests.derive.writer import Writer, operation

SEQUENCE, IMAGE, VECTOR = (3,), (4,), (2,)


@operation("pool over positions", (3, 4), often=2)
def pool(w: Writer, x: str) -> str:
    axes = tuple(range(1, len(w.shape(x)) - 1))
    how = w.pick(["mean", "max", "sum", "logsumexp"])
    if how == "logsumexp":
        return w.let(f"nn.logsumexp({x}, {axes})")
    return w.let(f"jnp.{how}({x}, {axes})")


@operation("flatten", (3, 4))
def flatten(w: Writer, x: str) -> str:
    n = w.shape(x)[1:]
    size = 1
    for side in n:
        size *= side
    return w.let(
        w.pick([f"{x}.reshape(-1, {size})", f"jnp.reshape({x}, (-1, {size}))"])
    )


@operation("last position", SEQUENCE)
def last(w: Writer, x: str) -> str:
    return w.let(w.pick([f"{x}[:, -1]", f"{x}[:, 0, :]"]))


@operation("position embedding", SEQUENCE)
def position(w: Writer, x: str) -> str:
    return w.let(f"{x} + {w.weight(*w.shape(x)[1:])}")


@operation("class token", SEQUENCE)
def class_token(w: Writer, x: str) -> str:
    n = w.units(x)
    token = w.let(f"jnp.broadcast_to({w.new((n,), 'bias')}, ({x}.shape[0], 1, {n}))")
    return w.let(f"jnp.concatenate([{token}, {x}], 1)")


@operation("token mixing", SEQUENCE)
def mixing(w: Writer, x: str) -> str:
    length = w.shape(x)[1]
    turned = w.let(f"jnp.swapaxes({x}, 1, 2)")
    h = w.hidden(turned, length)
    return w.let(f"{x} + jnp.transpose({h}, (0, 2, 1))")


@operation("running sum over positions", SEQUENCE)
def running(w: Writer, x: str) -> str:
    return w.let(w.pick([f"jnp.cumsum({x}, 1)", f"jnp.flip({x}, 1)"]))


@operation("stack and unstack", (*VECTOR, *SEQUENCE), often=2)
def stacked(w: Writer, x: str) -> str:
    n = w.width()
    a, b = w.hidden(x, n), w.hidden(x, n)
    both = w.let(f"jnp.stack([{a}, {b}], {w.pick([1, -1])})")
    along = 1 if w.shape(both)[1] == 2 and w.shape(both)[-1] == n else -1
    return w.let(
        w.pick(
            [
                f"{both}.sum({along})",
                f"{both}.max({along})",
                f"jnp.subtract(*jnp.unstack({both}, axis={along}))",
                f"jnp.stack([{a}, {b}], -1).reshape(*{a}.shape[:-1], -1)",
                f"jnp.stack(jnp.unstack({a}, axis=-1)[:2], axis=-1)",
            ]
        )
    )


@operation("several kernels in one array", (*VECTOR, *SEQUENCE), often=2)
def several(w: Writer, x: str) -> str:
    d, n = w.units(x), w.width()
    first = w.chance(0.5)
    out = "c...n" if first else "...cn"
    both = w.let(f'jnp.einsum("...d,cdn->{out}", {x}, {w.weight(2, d, n)})')
    if w.chance(0.5):
        bias = w.weight(2, n, kind="bias")
        ones = ", ".join(["1"] * (len(w.shape(x)) - 1))
        text = f"{bias}.reshape(2, {ones}, {n})" if first else bias
        both = w.let(f"{both} + {text}")
    one, other = (f"{both}[{i}]" if first else f"{both}[..., {i}, :]" for i in (0, 1))
    return w.let(
        w.pick(
            [
                f"nn.gelu({one}) * {other}",
                f"{w.activation(one)} + {other}",
                f"jnp.concatenate([{one}, nn.relu({other})], -1)",
                f"({w.activation(both)}).sum({0 if first else -2})",
            ]
        )
    )


@operation("written into an array", SEQUENCE)
def written(w: Writer, x: str) -> str:
    length, n = w.shape(x)[1:]
    kind = w.pick(["moved", "added", "summed", "masked", "of some units"])
    return w.let(
        {
            "moved": f"jnp.zeros_like({x}).at[:, 1:].set({x}[:, :-1])",
            "added": f"{x}.at[:, 0].add({w.weight(n, kind='bias')})",
            "summed": f"jnp.zeros(({x}.shape[0], 2, {n}))"
            f".at[:, jnp.arange({length}) % 2].add({x})",
            "masked": f"{x}.at[:, {length - 1}].set(0.5)",
            "of some units": f"{x}.at[:, :, 0].set(0.0)",
        }[kind]
    )


@operation("convolution of a sequence", SEQUENCE)
def conv1d(w: Writer, x: str) -> str:
    d, n = w.units(x), w.width()
    kernel = w.weight(2, d, n)
    names = '("NWC", "WIO", "NWC")'
    h = w.let(
        f'lax.conv_general_dilated({x}, {kernel}, (1,), "SAME", '
        f"dimension_numbers={names}) + {w.weight(n, kind='bias')}"
    )
    return w.let(w.activation(h))


def _mask(w: Writer, scores: str) -> str:
    """Scores `[N, H, T, S]`, masked or not."""
    rows, columns = w.shape(scores)[-2:]
    kind = w.pick(["none", "causal", "masked"])
    w.used.append(f"attention, {kind}")
    if kind == "none":
        return scores
    mask = f"jnp.tril(jnp.ones(({rows}, {columns}), bool))"
    if kind == "masked":
        mask = f"(jnp.arange({columns}) != 1)"
    return w.let(f"jnp.where({mask}, {scores}, -1e9)")


def _rotary(w: Writer, q: str) -> str:
    """Queries or keys `[N, T, H, d]` turned by their position, halves as pairs."""
    length, half = w.shape(q)[1], w.units(q) // 2
    angle = w.let(
        f"jnp.arange({length})[:, None, None] / 10.0 ** (jnp.arange({half}) / {half})"
    )
    a, b = w.let(f"{q}[..., :{half}]"), w.let(f"{q}[..., {half}:]")
    cos, sin = w.let(f"jnp.cos({angle})"), w.let(f"jnp.sin({angle})")
    turned = f"{a} * {cos} - {b} * {sin}, {b} * {cos} + {a} * {sin}"
    return w.let(f"jnp.concatenate([{turned}], -1)")


def _heads(w: Writer, x: str, heads: int, size: int, bias: float) -> str:
    """Projected to `[N, T, H, d]`, by a flat kernel or one with an axis of heads."""
    if w.chance(0.3):
        kernel = w.new((w.units(x), heads, size))
        text = f'jnp.einsum("ntd,dhk->nthk", {x}, {kernel})'
        if w.chance(bias):
            text += f" + {w.new((heads, size), 'bias')}"
        return w.let(text)
    flat = w.let(w.layer(x, heads * size, bias))
    return w.let(f"{flat}.reshape(-1, {w.shape(x)[1]}, {heads}, {size})")


def _attend(w: Writer, q: str, k: str, v: str) -> str:
    """`[N, T, H d]` from `[N, T, H, d]`."""
    scale = w.pick(["0.5 * ", "", "0.7 * "])
    scores = w.let(f'{scale}jnp.einsum("nthd,nshd->nhts", {q}, {k})')
    share = w.let(f"nn.softmax({_mask(w, scores)})")
    read = w.let(f'jnp.einsum("nhts,nshd->nthd", {share}, {v})')
    length, heads, size = w.shape(read)[1:]
    return w.let(f"{read}.reshape(-1, {length}, {heads * size})")


def _out(w: Writer, x: str, read: str) -> str:
    out = w.layer(read, w.units(x), 0.5)
    return w.let(f"{x} + {out}" if w.chance(0.6) else out)


@operation("attention", SEQUENCE, often=3)
def attention(w: Writer, x: str) -> str:
    heads, size, bias = w.pick([1, 2]), w.pick([2, 4]), w.pick([0.0, 1.0])
    q, k, v = (_heads(w, x, heads, size, bias) for _ in range(3))
    return _out(w, x, _attend(w, q, k, v))


@operation("attention, rotary", SEQUENCE, often=1.5)
def rotary(w: Writer, x: str) -> str:
    heads, size, bias = w.pick([1, 2]), w.pick([2, 4]), w.pick([0.0, 1.0])
    q, k, v = (_heads(w, x, heads, size, bias) for _ in range(3))
    return _out(w, x, _attend(w, _rotary(w, q), _rotary(w, k), v))


@operation("attention, fused", SEQUENCE, often=2)
def fused(w: Writer, x: str) -> str:
    heads, size, length = w.pick([1, 2]), 2, w.shape(x)[1]
    qkv = w.let(w.layer(x, 3 * heads * size))
    if w.chance(0.5):
        cut = w.let(f"{qkv}.reshape(-1, {length}, 3, {heads}, {size})")
        q, k, v = (w.let(f"{cut}[:, :, {n}]") for n in range(3))
    else:
        parts = [w.let(f"jnp.split({qkv}, 3, -1)[{n}]") for n in range(3)]
        q, k, v = (w.let(f"{p}.reshape(-1, {length}, {heads}, {size})") for p in parts)
    return _out(w, x, _attend(w, q, k, v))


@operation("attention, grouped", SEQUENCE)
def grouped(w: Writer, x: str) -> str:
    size, bias = 2, w.pick([0.0, 1.0])
    groups, queries = w.pick([(1, 2), (2, 2)])
    q = _heads(w, x, groups * queries, size, bias)
    k, v = (_heads(w, x, groups, size, bias) for _ in range(2))
    k, v = (w.let(f"jnp.repeat({one}, {queries}, 2)") for one in (k, v))
    return _out(w, x, _attend(w, q, k, v))


@operation("attention, normed queries", SEQUENCE)
def normed(w: Writer, x: str) -> str:
    heads, size = w.pick([1, 2]), w.pick([2, 3])
    q, k, v = (_heads(w, x, heads, size, 0.0) for _ in range(3))
    q, k = (
        w.let(f"{one} / jnp.sqrt(jnp.mean({one} ** 2, -1, keepdims=True) + 1e-3)")
        for one in (q, k)
    )
    return _out(w, x, _attend(w, q, k, v))


@operation("attention, linear", SEQUENCE)
def linear_attention(w: Writer, x: str) -> str:
    n, m = w.width(), w.width()
    q, k = w.let(f"nn.elu({w.layer(x, n)}) + 1"), w.let(f"nn.elu({w.layer(x, n)}) + 1")
    v = w.let(w.layer(x, m))
    state = w.let(f'jnp.einsum("nsd,nse->nde", {k}, {v})')
    return w.let(f'0.2 * jnp.einsum("ntd,nde->nte", {q}, {state})')


@operation("scores of pairs", SEQUENCE)
def pairs(w: Writer, x: str) -> str:
    n = w.width()
    left, right = w.let(w.layer(x, n)), w.let(w.layer(x, n))
    grid = w.let(w.activation(w.let(f"{left}[:, :, None, :] + {right}[:, None, :, :]")))
    return w.let(f"jnp.mean({grid}, {w.pick([1, 2])})")


@operation("heads and back", VECTOR, often=2)
def heads_and_back(w: Writer, x: str) -> str:
    heads, size = w.pick([(2, 2), (2, 3), (3, 2)])
    h = w.hidden(x, heads * size)
    cut = w.let(f"{h}.reshape(-1, {heads}, {size})")
    way = w.pick(["per head", "shared", "transposed"])
    if way == "per head":
        kernel = w.weight(heads, size, size)
        cut = w.let(f'jnp.einsum("nhi,hio->nho", {cut}, {kernel})')
    elif way == "shared":
        cut = w.hidden(cut, size)
    else:
        cut = w.let(f"jnp.transpose({cut}, (0, 2, 1))")
    w.used.append(f"heads, {way}")
    return w.let(f"{cut}.reshape(-1, {heads * size})")


@operation("vector as a sequence", VECTOR)
def as_sequence(w: Writer, x: str) -> str:
    length, n = w.pick([2, 3]), w.width()
    return w.let(f"({w.layer(x, length * n)}).reshape(-1, {length}, {n})")


@operation("outer product", VECTOR)
def outer(w: Writer, x: str) -> str:
    a, b = w.hidden(x, w.pick([2, 3])), w.hidden(x, w.pick([2, 3]))
    n = w.units(a) * w.units(b)
    return w.let(f"({a}[:, :, None] * {b}[:, None, :]).reshape(-1, {n})")


@operation("convolution", IMAGE, often=10)
def conv2d(w: Writer, x: str) -> str:
    d, n = w.units(x), w.pick([2, 3, 4])
    kind = w.pick(["plain", "plain", "strided", "dilated", "grouped", "depthwise"])
    w.used.append(f"convolution, {kind}")
    options, inside = '(1, 1), "SAME"', d
    if kind == "strided":
        options = '(2, 2), "SAME"'
    elif kind == "dilated":
        options = '(1, 1), "SAME", rhs_dilation=(2, 2)'
    elif kind == "grouped" and d % 2 == 0:
        options, inside, n = '(1, 1), "SAME", feature_group_count=2', d // 2, 2 * n
    elif kind == "depthwise":
        options, inside = f'(1, 1), "SAME", feature_group_count={d}', 1
        n = d * w.pick([1, 1, 2])
    elif min(w.shape(x)[1:3]) > 2:
        pads = w.pick(['"SAME"', '"VALID"', "((1, 0), (0, 1))", '"SAME"'])
        options = f"(1, 1), {pads}"
    side = w.pick([1, 2, 2, 3])
    kernel = w.weight(side, side, inside, n)
    names = '("NHWC", "HWIO", "NHWC")'
    text = f"lax.conv_general_dilated({x}, {kernel}, {options}, "
    text += f"dimension_numbers={names})"
    if w.chance(0.7):
        text += f" + {w.weight(n, kind='bias')}"
    return w.let(w.activation(w.let(text)))


@operation("transposed convolution", IMAGE)
def conv_transpose(w: Writer, x: str) -> str:
    n = w.pick([2, 3])
    kernel = w.weight(2, 2, w.units(x), n)
    h = w.let(f'lax.conv_transpose({x}, {kernel}, (1, 1), "SAME")')
    return w.let(w.activation(h))


@operation("pool of windows", IMAGE, often=2)
def windows(w: Writer, x: str) -> str:
    if min(w.shape(x)[1:3]) < 2:
        return w.let(w.activation(x))
    size = "(1, 2, 2, 1), (1, 2, 2, 1)"
    if w.chance(0.5):
        return w.let(f'lax.reduce_window({x}, -jnp.inf, lax.max, {size}, "VALID")')
    return w.let(f'lax.reduce_window({x}, 0.0, lax.add, {size}, "VALID") / 4')


@operation("squeeze and excite", IMAGE)
def squeeze(w: Writer, x: str) -> str:
    pooled = w.let(f"jnp.mean({x}, (1, 2))")
    gate = w.layer(w.hidden(pooled), w.units(x))
    return w.let(f"{x} * nn.sigmoid({gate})[:, None, None, :]")


@operation("image as a sequence", IMAGE)
def patches(w: Writer, x: str) -> str:
    height, width, n = w.shape(x)[1:]
    return w.let(f"{x}.reshape(-1, {height * width}, {n})")


@operation("channels first", IMAGE)
def channels_first(w: Writer, x: str) -> str:
    turned = w.let(f"jnp.moveaxis({x}, -1, 1)")
    d, n = w.units(x), w.pick([2, 3])
    kernel = w.weight(n, d, 2, 2)
    h = w.let(f'lax.conv({turned}, {kernel}, (1, 1), "SAME")')
    return w.let(f"jnp.moveaxis({w.activation(h)}, 1, -1)")
