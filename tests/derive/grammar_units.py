"""Rules of the grammar on the last axis: what makes, mixes and cuts units."""

from tests.derive.writer import ANY, Writer, operation


@operation("dense", often=6)
def dense(w: Writer, x: str) -> str:
    return w.hidden(x)


@operation("dense, biasless")
def biasless(w: Writer, x: str) -> str:
    return w.let(w.activation(w.let(w.layer(x, w.width(), 0.0))))


@operation("activation")
def activation(w: Writer, x: str) -> str:
    return w.let(w.activation(x))


@operation("residual", often=2)
def residual(w: Writer, x: str) -> str:
    h = w.hidden(x)
    return w.let(f"{x} + {w.layer(h, w.units(x))}")


@operation("residual of one layer")
def residual_short(w: Writer, x: str) -> str:
    return w.let(f"{x} + {w.hidden(x, w.units(x))}")


@operation("one kernel twice")
def twice(w: Writer, x: str) -> str:
    d = w.units(x)
    kernel = w.new((d, d))
    h = w.let(w.activation(w.let(f"{x} @ {kernel}")))
    return w.let(w.activation(w.let(f"{h} @ {kernel}")))


@operation("a kernel and its transpose")
def transposed(w: Writer, x: str) -> str:
    d, n = w.units(x), w.width()
    kernel = w.new((d, n))
    h = w.let(w.activation(w.let(f"{x} @ {kernel} + {w.weight(n, kind='bias')}")))
    return w.let(f"{h} @ {kernel}.T")


@operation("one bias twice")
def bias_twice(w: Writer, x: str) -> str:
    d, n = w.units(x), w.width()
    bias = w.new((n,), "bias")
    h = w.let(w.activation(w.let(f"{x} @ {w.weight(d, n)} + {bias}")))
    return w.let(w.activation(w.let(f"{h} @ {w.weight(n, n)} + {bias}")))


@operation("product of two layers")
def product(w: Writer, x: str) -> str:
    n = w.width()
    return w.let(f"({w.layer(x, n)}) * ({w.layer(x, n)})")


@operation("sigmoid gate")
def gate(w: Writer, x: str) -> str:
    n = w.width()
    return w.let(f"nn.sigmoid({w.layer(x, n)}) * ({w.layer(x, n)})")


@operation("gated, fused")
def glu(w: Writer, x: str) -> str:
    n = w.width()
    both = w.let(w.layer(x, 2 * n))
    if w.chance(0.3):
        return w.let(f"nn.glu({both})")
    a, b = w.let(f"{both}[..., :{n}]"), w.let(f"{both}[..., {n}:]")
    return w.let(f"{w.activation(a)} * {b}")


@operation("gate of itself")
def self_gate(w: Writer, x: str) -> str:
    return w.let(f"{x} * nn.sigmoid({w.layer(x, w.units(x))})")


@operation("concatenation")
def concatenation(w: Writer, x: str) -> str:
    return w.let(f"jnp.concatenate([{w.hidden(x)}, {w.hidden(x)}], -1)")


@operation("concatenation with its input")
def dense_net(w: Writer, x: str) -> str:
    parts = w.pick(["{x}, {h}", "{h}, {x}", "{x}, {h}, {x}"])
    return w.let(f"jnp.concatenate([{parts.format(x=x, h=w.hidden(x))}], -1)")


@operation("split")
def split(w: Writer, x: str) -> str:
    n = w.width()
    both = w.let(w.layer(x, 2 * n))
    a = w.let(f"jnp.split({both}, 2, -1)[0]")
    b = w.let(f"jnp.split({both}, [{n}], -1)[1]")
    return w.let(f"{w.activation(a)} {w.pick('+-*')} {w.activation(b)}")


@operation("interleaved halves")
def interleaved(w: Writer, x: str) -> str:
    n = w.width()
    both = w.let(w.layer(x, 2 * n))
    a, b = w.let(f"{both}[..., 0::2]"), w.let(f"{both}[..., 1::2]")
    return w.let(f"{w.activation(a)} * {b}")


@operation("two readers")
def two_readers(w: Writer, x: str) -> str:
    n = w.width()
    h = w.hidden(x)
    return w.let(f"{w.hidden(h, n)} {w.pick('+-')} {w.hidden(h, n)}")


@operation("larger of two layers")
def larger(w: Writer, x: str) -> str:
    n, how = w.width(), w.pick(["maximum", "minimum"])
    return w.let(f"jnp.{how}({w.layer(x, n)}, {w.layer(x, n)})")


@operation("maxout")
def maxout(w: Writer, x: str) -> str:
    n = w.width()
    h = w.let(w.layer(x, 2 * n))
    lead = "".join(f"{side}, " for side in ("-1", *w.shape(x)[1:-1]))
    inner, axis = w.pick([(f"{n}, 2", -1), (f"2, {n}", -2)])
    return w.let(f"jnp.max({h}.reshape({lead}{inner}), {axis})")


@operation("bilinear")
def bilinear(w: Writer, x: str) -> str:
    d, n = w.units(x), w.pick([2, 3])
    h = w.hidden(x)
    kernel = w.weight(d, w.units(h), n)
    return w.let(f'0.5 * jnp.einsum("...i,...j,ijk->...k", {x}, {h}, {kernel})')


@operation("learned scalar")
def scalar(w: Writer, x: str) -> str:
    return w.let(f"{w.new((), w.pick(['scale', 'bias']))} * {w.hidden(x)}")


@operation("learned vector")
def vector(w: Writer, x: str) -> str:
    h = w.hidden(x)
    return w.let(f"{h} * {w.weight(w.units(h), kind='scale')}")


@operation("learned slope")
def slope(w: Writer, x: str) -> str:
    n = w.width()
    h = w.let(w.layer(x, n))
    rate = w.new(w.pick([(), (n,)]), "scale")
    return w.let(f"jnp.where({h} > 0, {h}, 0.3 * {rate} * {h})")


@operation("weight normalisation")
def weight_norm(w: Writer, x: str) -> str:
    n = w.width()
    v, g = w.new((w.units(x), n)), w.weight(n, kind="scale")
    kernel = w.let(f"{g} * {v} / jnp.sqrt(jnp.sum({v} ** 2, axis=0))")
    return w.let(w.activation(w.let(f"{x} @ {kernel}")))


@operation("fixed vector")
def fixed_vector(w: Writer, x: str) -> str:
    h = w.hidden(x)
    return w.let(f"{h} {w.pick('*+')} {w.constant(w.units(h))}")


@operation("fixed scalar")
def fixed_scalar(w: Writer, x: str) -> str:
    how = w.pick(["0.7 * {h}", "{h} + 0.25", "{h} / 1.5 - 0.5", "-{h}", "1.0 - {h}"])
    return w.let(how.format(h=w.hidden(x)))


@operation("layer norm", often=2)
def layer_norm(w: Writer, x: str) -> str:
    h = x if w.chance(0.5) else w.hidden(x)
    mean = w.let(f"jnp.mean({h}, -1, keepdims=True)")
    var = w.let(f"jnp.var({h}, -1, keepdims=True)")
    text = f"({h} - {mean}) * lax.rsqrt({var} + 1e-3)"
    return w.let(affine(w, text, w.units(h)))


def affine(w: Writer, text: str, n: int) -> str:
    """With or without a learned scale and bias."""
    kind = w.pick(["none", "scale", "both", "1 + scale"])
    if kind == "none":
        return text
    if kind == "1 + scale":
        return f"{text} * (1 + {w.weight(n, kind='bias')})"
    text = f"{text} * {w.weight(n, kind='scale')}"
    return f"{text} + {w.weight(n, kind='bias')}" if kind == "both" else text


@operation("rms norm", often=2)
def rms_norm(w: Writer, x: str) -> str:
    h = x if w.chance(0.5) else w.hidden(x)
    rms = w.let(f"jnp.sqrt(jnp.mean({h} ** 2, -1, keepdims=True) + 1e-3)")
    return w.let(affine(w, f"{h} / {rms}", w.units(h)))


@operation("unit length")
def unit_length(w: Writer, x: str) -> str:
    h = w.hidden(x)
    return w.let(f"{h} / jnp.sqrt(jnp.sum({h} * {h}, -1, keepdims=True) + 0.1)")


@operation("group norm")
def group_norm(w: Writer, x: str) -> str:
    h = w.hidden(x, w.pick([4, 6]))
    n, lead = w.units(h), w.shape(h)[1:-1]
    sides = "".join(f"{side}, " for side in lead)
    axes = (*range(1, 1 + len(lead)), 2 + len(lead))
    r = w.let(f"{h}.reshape(-1, {sides}2, {n // 2})")
    mean = w.let(f"{r}.mean({axes}, keepdims=True)")
    var = w.let(f"{r}.var({axes}, keepdims=True)")
    back = f"(({r} - {mean}) / jnp.sqrt({var} + 1e-2)).reshape(-1, {sides}{n})"
    return w.let(affine(w, back, n))


@operation("batch norm in inference")
def batch_norm(w: Writer, x: str) -> str:
    h = w.hidden(x)
    n = w.units(h)
    mean, var = w.weight(n, kind="bias"), w.weight(n, kind="scale")
    text = f"({h} - {mean}) / jnp.sqrt({var} + 1e-3)"
    return w.let(affine(w, text, n))


@operation("softmax over units")
def softmax(w: Writer, x: str) -> str:
    h = w.let(w.layer(x, w.width()))
    text = w.pick(["nn.softmax({h})", "nn.softmax({h} / 0.7, axis=-1)"])
    return w.let(text.format(h=h))


@operation("mixture by a softmax")
def mixture(w: Writer, x: str) -> str:
    d, e, n = w.units(x), w.pick([2, 3]), w.width()
    gates = w.let(f"nn.softmax({w.layer(x, e)})")
    h = w.let(f'jnp.einsum("...d,edn->...en", {x}, {w.weight(e, d, n)})')
    return w.let(f'jnp.einsum("...e,...en->...n", {gates}, {w.activation(h)})')


@operation("logsumexp over units")
def logsumexp(w: Writer, x: str) -> str:
    h = w.let(w.layer(x, w.width()))
    return w.let(f"{h} - nn.logsumexp({h}, -1, keepdims=True)")


@operation("reduction over units")
def reduction(w: Writer, x: str) -> str:
    h, how = w.hidden(x), w.pick(["max", "min", "mean", "sum"])
    return w.let(f"{h} - jnp.{how}({h}, -1, keepdims=True)")


@operation("running sum of units")
def cumsum(w: Writer, x: str) -> str:
    return w.let(f"jnp.cumsum({w.hidden(x)}, -1)")


@operation("sorted units")
def sort(w: Writer, x: str) -> str:
    return w.let(f"jnp.sort({w.hidden(x)}, -1)")


@operation("largest units")
def top_k(w: Writer, x: str) -> str:
    return w.let(f"lax.top_k({w.hidden(x)}, 2)[0]")


@operation("one unit by one_hot")
def one_hot(w: Writer, x: str) -> str:
    h = w.hidden(x)
    n = w.units(h)
    return w.let(f"{h} + {h} * nn.one_hot({w.pick(range(n))}, {n}, dtype={h}.dtype)")


@operation("slice of units")
def sliced(w: Writer, x: str) -> str:
    h = w.hidden(x, w.pick([4, 5, 6]))
    how = w.pick(["[..., :3]", "[..., 1:]", "[..., ::2]", "[..., [2, 0, 1]]"])
    return w.let(f"{h}{how}")


@operation("dynamic slice of units")
def dynamic(w: Writer, x: str) -> str:
    h = w.hidden(x, w.pick([4, 5]))
    start = w.pick(["1", "jnp.argmax(jnp.arange(2))"])
    return w.let(f"lax.dynamic_slice_in_dim({h}, {start}, 3, axis=-1)")


@operation("padded units")
def padded(w: Writer, x: str) -> str:
    h = w.hidden(x, w.pick([2, 3]))
    pads = [(0, 0)] * (len(w.shape(h)) - 1) + [w.pick([(0, 1), (1, 0), (1, 1)])]
    value = w.pick(["", ", constant_values=0.5"])
    return w.let(f"jnp.pad({h}, {pads}{value})")


@operation("flipped units")
def flipped(w: Writer, x: str) -> str:
    h = w.hidden(x)
    return w.let(w.pick([f"jnp.flip({h}, -1)", f"{h} + {h}[..., ::-1]"]))


@operation("rolled units")
def rolled(w: Writer, x: str) -> str:
    h = w.hidden(x)
    return w.let(w.pick([f"jnp.roll({h}, 1, -1)", f"{h} * jnp.roll({h}, -1, -1)"]))


@operation("repeated units")
def repeated(w: Writer, x: str) -> str:
    h = w.hidden(x, w.pick([2, 3]))
    ones = (1,) * (len(w.shape(h)) - 1)
    return w.let(w.pick([f"jnp.repeat({h}, 2, -1)", f"jnp.tile({h}, {(*ones, 2)})"]))


@operation("units overwritten")
def overwritten(w: Writer, x: str) -> str:
    h = w.hidden(x, w.pick([4, 5]))
    return w.let(h + w.pick([".at[..., :2].set(0.5)", ".at[..., 1].multiply(2.0)"]))


@operation("skip from before", often=2)
def skip(w: Writer, x: str) -> str:
    """To any variable with the same positions: a U-Net, or a long residual."""
    shape = w.shape(x)
    old = [
        name
        for name, one in w.env.items()
        if name[0] == "h" and name != x and one.shape[:-1] == shape[:-1]
    ]
    if not old:
        return w.let(f"{x} + {w.hidden(x, w.units(x))}")
    far = w.pick(old)
    if w.shape(far) == shape and w.chance(0.6):
        return w.let(f"{x} {w.pick('+-*')} {far}")
    return w.let(f"jnp.concatenate([{x}, {far}], -1)")


@operation("film", ANY)
def film(w: Writer, x: str) -> str:
    """By the second input."""
    h = w.hidden(x)
    z = "z" if "z" in w.env else x
    n = w.units(h)
    ones = "None, " * (len(w.shape(h)) - len(w.shape(z)))
    scale, bias = w.let(w.layer(z, n)), w.let(w.layer(z, n))
    index = f"[:, {ones}:]" if ones else ""
    return w.let(f"{h} * (1 + {scale}{index}) + {bias}{index}")
