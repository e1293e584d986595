"""The public Small Transformer Zoo: small vision transformers, one file a checkpoint.

A directory holds

- `metadata/mnist.csv`: one line a checkpoint: how it was trained, `ckpt_epoch`,
  `ckpt_file` and `test_top1_accuracy`;
- `mnist/RUN_EPOCH_ACCURACY.pt`: PyTorch state dicts, read without PyTorch.

Patches are embedded by a convolution, a fixed table of sines is added, and every block
computes `x = attention(norm(x))` and `x = fc2(relu(fc1(norm(x))))`: nothing is added to
what a layer reads, norms are layer norms without scale and bias, attention has no bias.
Behind one more norm, the mean over patches goes through two dense layers with a ReLU
between. The published code gives it images in `[-1, 1]`; a directory may have been made
with others, such as `[0, 1]`, and does not tell.

The AG-News half of the zoo comes without its embedding, so its networks cannot be run;
it is not read.

Source: Tran et al. 2024, arXiv:2410.04209.
"""

from pathlib import Path
from typing import Any

import numpy as np

from qejax.nets import Network, TransformerConfig, build, sine_positions
from qejax.spaces import Leaf
from qejax.zoo._cut import accurate_rows
from qejax.zoo._listing import Found, Listing, Weights, in_memory, vectors_of
from qejax.zoo._zoo import Zoo
from qejax.zoo.files import read_state
from qejax.zoo.formats._csv import column
from qejax.zoo.formats._protocols import (
    CLEAN,
    SMALL_TRANSFORMER_ZOO,
    check_protocol,
)
from qejax.zoo.formats._small_transformer_files import (
    ACCURACY,
    FILE,
    POSITIONS,
    TABLE,
    Run,
    check_positions,
    check_tensors,
    open_runs,
    sizes,
)

EPSILON = 1e-5
"""In the variance of norms: the default of PyTorch."""

LAYERS = {
    "embed": "embedding.conv1",
    "attention/query": "attention.queries",
    "attention/key": "attention.keys",
    "attention/value": "attention.values",
    "attention/out": "attention.out_projection",
    "mlp/up": "fc1",
    "mlp/down": "fc2",
    "head_hidden": "classifier.fc1",
    "head": "classifier.fc2",
}
"""Layers of the file by ours, those of a block without its prefix."""

AXES = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}
"""PyTorch's axes in our order, by their number: dense `(out, in)`, convolution
`(out, in, height, width)`."""


def list_small_transformer_zoo(
    directory: str | Path,
    checkpoint: str = "75",
    cut_off: float = 0.0,
    split_seed: int = 0,
    protocol: str = CLEAN,
) -> Found:
    """Lists the networks of a Small Transformer Zoo directory, one checkpoint each.

    Args:
        directory: holds `metadata/mnist.csv` and `mnist/*.pt`.
        checkpoint: which one of every run, as in `ckpt_epoch`; 75 is what the
            literature takes.
        cut_off: networks below this accuracy are left out before the split, so that
            every cut-off has a split of its own; their files are not opened.
        split_seed: of the protocol "clean".
        protocol: how runs are split into 70 %, 15 % and 15 %, of
            `protocols("small_transformer_zoo")`.

    Returns:
        Bucket `mnist`, in the order of the table. The label is `test_accuracy`; `hyper`
        are the other columns; `ids` are the names of the runs.

    Raises:
        FileNotFoundError: if the table is missing.
        ValueError: if the table cannot be read, or no line of it can be used; names
            row or field, what was expected and found.
    """
    directory = Path(directory)
    check_protocol(directory, protocol, SMALL_TRANSFORMER_ZOO)
    runs, problems = open_runs(directory, str(checkpoint))
    accuracy = np.array([run.accuracy for run in runs])
    kept = accurate_rows(accuracy, cut_off, str(directory / TABLE))
    runs = [runs[row] for row in kept]
    of, runs, others = sizes(directory, runs)
    net = build(_config(directory, of))
    names = np.array([run.name for run in runs])

    def read(rows: np.ndarray) -> Weights:
        return vectors_of(
            [runs[row].path for row in rows],
            net.spec.num_parameters,
            lambda path: _vector(net, path),
        )

    listing = Listing(
        network=net,
        ids=names,
        runs=names,
        labels={"test_accuracy": np.array([run.accuracy for run in runs], np.float32)},
        hyper=_hyper(runs),
        split=SMALL_TRANSFORMER_ZOO[protocol](names, split_seed),
        source=f"small_transformer_zoo:{directory.name}",
        read=read,
    )
    advice = f"remove their lines from {directory / TABLE} to go on without them"
    return Found({"mnist": listing}, (*problems, *others), protocol, advice)


def load_small_transformer_zoo(
    directory: str | Path, *args: Any, **options: Any
) -> Zoo:
    """Returns the networks of `list_small_transformer_zoo` in memory; see there.

    Raises:
        FileNotFoundError: if the table is missing.
        ValueError: as `list_small_transformer_zoo`, and if a network that is kept
            cannot be used: says what is wrong with the first, and how many there are.
    """
    return in_memory(list_small_transformer_zoo(directory, *args, **options))["mnist"]


def public_config(of: dict[str, int]) -> TransformerConfig:
    """Returns the encoder of the public zoo with these sizes, by column.

    Raises:
        ValueError: if sizes do not describe a network.
    """
    return TransformerConfig(
        dim=of["embed_dim"],
        depth=of["n_layers"],
        heads=of["n_attention_heads"],
        hidden=of["embed_dim"] * of["forward_mul"],
        num_outputs=of["n_classes"],
        image=(of["image_size"], of["image_size"], of["n_channels"]),
        patch=of["patch_size"],
        activation="relu",
        affine=False,
        residual=False,
        final_norm=True,
        attention_bias=False,
        position="sine",
        head_hidden=of["embed_dim"],
        epsilon=EPSILON,
    )


def _config(directory: Path, of: dict[str, int]) -> TransformerConfig:
    try:
        return public_config(of)
    except ValueError as error:
        raise ValueError(
            f"{directory / TABLE}: the columns {list(of)} should describe a network, "
            f"got {list(of.values())}: {error}"
        ) from error


def tensor_of(
    config: TransformerConfig, leaf: Leaf, flat: np.ndarray
) -> tuple[str, np.ndarray]:
    """Returns name and tensor of a leaf in a file.

    Args:
        config: of the network.
        leaf: of its spec.
        flat: the leaf, in our order.
    """
    shape = _shape(config, leaf)
    axes = AXES[len(shape)]
    array = flat.reshape([shape[axis] for axis in axes])
    return _name(leaf), np.ascontiguousarray(array.transpose(np.argsort(axes)))


def _vector(net: Network, path: Path) -> np.ndarray:
    """The weights of one network in the order of the spec."""
    config, state = net.config, read_state(path)
    assert isinstance(config, TransformerConfig)
    length = int(config.length or 0)
    shapes = {_name(leaf): _shape(config, leaf) for leaf in net.spec.leaves}
    check_tensors(path, state, {POSITIONS: (length, config.dim)} | shapes)
    check_positions(path, state[POSITIONS], sine_positions(length, config.dim))
    arrays = [state[_name(leaf)] for leaf in net.spec.leaves]
    parts = [array.transpose(AXES[array.ndim]).reshape(-1) for array in arrays]
    return np.concatenate(parts).astype(np.float32)


def _name(leaf: Leaf) -> str:
    """The tensor of a leaf."""
    path, _, kind = leaf.path.rpartition("/")
    block, _, layer = (
        path.partition("/") if path.startswith("block_") else ("", "", path)
    )
    prefix = f"encoder.{int(block.removeprefix('block_'))}." if block else ""
    return f"{prefix}{LAYERS[layer]}.{'weight' if kind == 'kernel' else kind}"


def _shape(config: TransformerConfig, leaf: Leaf) -> tuple[int, ...]:
    """The shape of the tensor of a leaf."""
    if leaf.path == "embed/kernel":
        channels = leaf.stored[0] // config.patch**2
        return (config.dim, channels, config.patch, config.patch)
    if leaf.path.endswith("/bias"):
        return leaf.stored
    inputs = leaf.stored[:-1] if leaf.path.endswith("out/kernel") else leaf.stored[:1]
    size = int(np.prod(inputs))
    return (leaf.size // size, size)


def _hyper(runs: list[Run]) -> dict[str, np.ndarray]:
    """All columns but file and label, as numbers where every entry is one."""
    names = [name for name in runs[0].line if name not in ("", FILE, ACCURACY)]
    return {name: column([run.line[name] for run in runs]) for name in names}
