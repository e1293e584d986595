"""The weight space of a transformer: every symmetry that we know of it.

What the stream allows depends on what stands between the layers that write it and those
that read it: nothing (any invertible map), a norm without a scale (rotations; those
that fix the ones-vector where the norm centres), a norm with one (permutations, and a
scale between each norm and its readers). A fixed sine encoding pins the stream that it
is added to.

A norm that centres does not see the mean over the stream of what writes it, and its
result has none for what reads it. Behind a learned scale readers do not see one
direction either, but which one depends on the scale: no linear action moves along it,
and it is no part of the group here. `fold_norms` moves scales into the readers; the
network that it returns has the larger group.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from qejax import spaces
from qejax.nets._activations import activation as find_activation
from qejax.nets._network import unit_space
from qejax.nets._transformer_config import TransformerConfig
from qejax.spaces import Axis, Leaf, Part, Route, Shift, UnitSpace, WeightSpec, Wire

_STREAMS = {
    ("none", False): "linear_stream",
    ("none", True): "linear_stream",
    ("layer", False): "orthogonal_ones",
    ("rms", False): "orthogonal",
    ("layer", True): "permutation",
    ("rms", True): "permutation",
}
"""Group of a stream by its norm and whether that has a scale."""

_WRITING = ("kernel", "bias", "embedding")
"""Leaves of a layer whose last axis is a stream."""


@dataclass
class _Spec:
    """Collects parts in network order, and who writes and reads what.

    `readers` are linear layers `(path, stream, norm)`; `biases` are what may be
    shifted: `(path of a leaf, stream or None, norm or None, readers so far)`, or the
    shifts of an attention layer. `tables` are rows that shift together. `linear` are
    streams that are read without a norm; `centred` are paths and axes of leaves whose
    mean nobody sees.
    """

    config: TransformerConfig
    part: Part = field(default_factory=Part)
    streams: int = 0
    biases: list[tuple[Any, ...]] = field(default_factory=list)
    readers: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    linear: set[str | None] = field(default_factory=set)
    centred: list[tuple[str, int]] = field(default_factory=list)

    def add(self, part: Part) -> None:
        self.part = self.part + replace(part, shifts=())
        self.biases += [(shift,) for shift in part.shifts]

    def stream(self, normed: bool) -> Wire:
        """A new stream, and whether all that reads it is behind a norm."""
        config, name = self.config, f"stream_{self.streams}"
        self.streams += 1
        if not (normed or config.residual):
            self.linear.add(name)
        if config.position == "sine" and self.streams == 1:
            return Wire(config.dim)
        return Wire(config.dim, name)

    def announce(self, stream: Wire) -> None:
        """Adds the space of a stream, behind those of what first writes it."""
        known = {space.name for space in self.part.spaces}
        if stream.space is not None and stream.space not in known:
            group = _STREAMS[self.config.norm, self.config.affine]
            group = "linear_stream" if stream.space in self.linear else group
            self.add(Part((UnitSpace(stream.space, stream.size, group),)))

    def norm(self, path: str, source: Wire, read_only: bool) -> Wire:
        config = self.config
        if config.norm == "none" or not config.affine:
            return source
        use_bias = config.norm == "layer"
        part, wire = spaces.norm(path, source, use_bias=use_bias, read_only=read_only)
        self.add(part)
        if use_bias and read_only:
            self.biases.append((f"{path}/bias", None, path, len(self.readers)))
        return wire

    def reads(self, prefixes: tuple[str, ...], source: Wire, norm: str | None) -> None:
        self.readers += [(prefix, source.space, norm) for prefix in prefixes]
        if norm is not None and not self.config.affine:
            self.centre([(f"{prefix}/kernel", 0) for prefix in prefixes])

    def wrote(self, path: str, out: Wire, use_bias: bool, normed: bool) -> None:
        """A dense layer `path` or a table wrote the stream; see `stream`."""
        if use_bias:
            self.biases.append((f"{path}/bias", out.space, None, len(self.readers)))
        if normed:
            self.centre([(f"{path}/{name}", -1) for name in _WRITING])

    def shifts_rows(self, table: str, out: Wire) -> None:
        """Every position has a row of the table added, but for a class token."""
        if self.config.pool == "class":
            return
        self.tables.append(table)
        self.biases.append((table, out.space, None, len(self.readers)))

    def centre(self, axes: list[tuple[str, int]]) -> None:
        if self.config.norm == "layer":
            self.centred += axes

    def shifts(self) -> tuple[Shift, ...]:
        """Every bias that its readers' biases can make up for."""
        leaves = {leaf.path: leaf for leaf in self.part.leaves}
        groups = {space.name: space.group for space in self.part.spaces}
        found: list[Shift] = []
        if {"position/embedding", "embed/embedding"} <= set(leaves):
            rows = (Route(None, "embed/embedding"),)
            found.append(Shift("position.shift", "position/embedding", rows, (0,)))
        for entry in self.biases:
            if len(entry) == 1:
                found.append(entry[0])
                continue
            path, stream, norm, start = entry
            if norm is None and groups.get(stream) != "linear_stream":
                continue
            readers = [
                prefix
                for prefix, source, behind in self.readers[start:]
                if (source == stream if norm is None else behind == norm)
            ]
            if all(f"{reader}/bias" in leaves for reader in readers):
                name = f"{path.replace('/', '.')}.shift"
                along = (0,) if path in self.tables else ()
                found.append(spaces.shift_through(name, leaves, path, readers, along))
        # Last: what the others add has to be centred too.
        for path, position in self.centred:
            if path in leaves:
                along = position % len(leaves[path].axes)
                name = f"{path.replace('/', '.')}.mean_{along}"
                found.append(Shift(name, path, along=(along,)))
        return tuple(found)


def transformer_spec_of(config: TransformerConfig) -> WeightSpec:
    """Returns the spec of a configuration."""
    net = _Spec(config)
    kinds = [("norm_1", "attention", _attention), ("norm_2", "mlp", _feed_forward)]
    kinds = kinds[: 1 + bool(config.hidden)]
    sublayers = [
        (f"block_{number:02d}/{name}", f"block_{number:02d}/{layer}", build)
        for number in range(config.depth)
        for name, layer, build in kinds
    ]
    pre = config.placement == "pre"
    # With a residual, what reads the last stream reads all that was added to it.
    ends = pre and not config.final_norm
    stream, norm = _embedding(net, pre and not (ends and config.residual)), None
    for before, path, build in sublayers:
        last = path == sublayers[-1][1]
        normed = not pre or not ends or not (config.residual or last)
        if pre:
            norm = before
            source = net.norm(norm, stream, read_only=True)
            out = stream if config.residual else net.stream(normed)
            build(net, path, source, out, norm, normed)
            net.announce(out)
            stream = out
        else:
            out = stream if config.residual else net.stream(normed)
            build(net, path, stream, out, norm, normed)
            net.announce(out)
            norm = before
            stream = net.norm(norm, out, read_only=not config.residual or last)
    if pre:
        norm = "norm" if config.final_norm else None
    if config.final_norm:
        stream = net.norm("norm", stream, read_only=True)
    _head(net, stream, norm)
    return WeightSpec(net.part.spaces, net.part.leaves, net.shifts())


def _embedding(net: _Spec, normed: bool) -> Wire:
    config = net.config
    stream = net.stream(normed)
    net.announce(stream)
    if config.image is None:
        axes = (Axis(int(config.vocabulary or 0)), stream.write())
        net.add(Part(leaves=(Leaf("embed/embedding", axes),)))
        net.wrote("embed", stream, False, normed)
        net.shifts_rows("embed/embedding", stream)
    else:
        pixels = Wire(config.patch**2 * config.image[2])
        # A learned table of positions is a bias already.
        use_bias = config.position != "learned"
        leaves = spaces.dense("embed", pixels, stream, use_bias=use_bias)
        net.add(Part(leaves=leaves))
        net.wrote("embed", stream, use_bias and config.pool != "class", normed)
    if config.position == "learned":
        axes = (Axis(int(config.length or 0)), stream.write())
        net.add(Part(leaves=(Leaf("position/embedding", axes),)))
        net.wrote("position", stream, False, normed)
        if config.image is not None:
            net.shifts_rows("position/embedding", stream)
    if config.pool == "class":
        net.add(Part(leaves=(Leaf("class_token", (stream.write(),)),)))
        if normed:
            net.centre([("class_token", -1)])
    return stream


def _attention(
    net: _Spec, path: str, source: Wire, out: Wire, norm: str | None, normed: bool
) -> None:
    config = net.config
    net.add(
        spaces.attention(
            path,
            source,
            out,
            config.heads,
            int(config.head_dim or 0),
            kv_heads=config.kv_heads,
            use_bias=config.attention_bias,
            qk="rotary" if config.position == "rotary" else "general_linear",
        )
    )
    names = tuple(f"{path}/{name}" for name in ("query", "key", "value"))
    net.reads(names, source, norm)
    net.wrote(f"{path}/out", out, config.attention_bias, normed)


def _feed_forward(
    net: _Spec, path: str, source: Wire, out: Wire, norm: str | None, normed: bool
) -> None:
    config = net.config
    row = find_activation(config.activation)
    name, turns = path.replace("/", "."), config.mlp_bias and not config.gated
    hidden, wire = unit_space(name, config.hidden, [row], turns)
    net.add(Part((hidden,)))
    if config.gated:
        net.add(spaces.gated(path, source, wire, out, use_bias=config.mlp_bias))
        net.reads((f"{path}/gate", f"{path}/up"), source, norm)
    else:
        leaves = spaces.dense(f"{path}/up", source, wire, use_bias=config.mlp_bias)
        leaves += spaces.dense(f"{path}/down", wire, out, use_bias=config.mlp_bias)
        net.add(Part(leaves=leaves))
        net.reads((f"{path}/up",), source, norm)
    net.wrote(f"{path}/down", out, config.mlp_bias, normed)


def _head(net: _Spec, stream: Wire, norm: str | None) -> None:
    config, outputs = net.config, Wire(net.config.num_outputs)
    first = "head_hidden" if config.head_hidden else "head"
    net.reads((first,), stream, norm)
    if config.head_hidden:
        row = find_activation("relu")
        hidden, wire = unit_space("head_hidden", config.head_hidden, [row])
        leaves = spaces.dense("head_hidden", stream, wire, use_bias=config.mlp_bias)
        net.add(Part((hidden,), leaves))
        stream = wire
    leaves = spaces.dense("head", stream, outputs, use_bias=config.mlp_bias)
    net.add(Part(leaves=leaves))
