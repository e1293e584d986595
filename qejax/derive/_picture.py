"""What was derived as a picture: leaves against unit spaces."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qejax.derive._explain import Fold, Row, folded

_COLOURS = {
    "permutation": "#9e9e9e",
    "positive_scale": "#ef8a3c",
    "sign": "#c9a227",
    "dihedral": "#8a6fbf",
    "absorbed": "#e8b58b",
    "general_linear": "#3b7dbf",
    "linear_stream": "#275d94",
    "orthogonal": "#3f9e6e",
    "orthogonal_ones": "#6fbf97",
    "rotary": "#b2587f",
    "shift": "#5f6b73",
}


def draw(rows: Sequence[Row], path: str | Path) -> None:
    """Draws which leaves each unit space moves; repeated blocks are folded.

    Args:
        rows: of unit spaces and shifts.
        path: of the file; its ending says the format.

    Raises:
        ImportError: without matplotlib; says how to install it.
    """
    try:
        import matplotlib.pyplot as plt
        from matplotlib.patches import Rectangle
    except ImportError as error:
        raise ImportError(
            "derive: drawing needs matplotlib, which is not installed. Install "
            "qejax[experiments], or print the table."
        ) from error
    folds = folded(rows)
    named = _names(folds)
    leaves = {name: n for n, name in enumerate(dict.fromkeys(named.values()))}
    size = (2.5 + 0.42 * len(folds), 1.8 + 0.24 * len(leaves))
    figure, axes = plt.subplots(figsize=size, constrained_layout=True)
    for x, fold in enumerate(folds):
        colour = _COLOURS.get(fold.first.group, "#000000")
        for move in fold.first.moves:
            y = leaves[named[move]]
            axes.add_patch(Rectangle((x - 0.4, y - 0.4), 0.8, 0.8, color=colour))
    _label(axes, folds, leaves)
    groups = dict.fromkeys(fold.first.group for fold in folds)
    handles = [Rectangle((0, 0), 1, 1, color=_COLOURS.get(g, "#000")) for g in groups]
    axes.legend(
        handles,
        groups,
        loc="upper left",
        bbox_to_anchor=(1, 1),
        frameon=False,
        fontsize=8,
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _label(axes: Any, folds: Sequence[Fold], leaves: dict[str, int]) -> None:
    axes.set_xlim(-0.6, len(folds) - 0.4)
    axes.set_ylim(len(leaves) - 0.4, -0.6)
    names = [
        f"{f.name} ({f.first.size})" + (f" x{f.count}" if f.count > 1 else "")
        for f in folds
    ]
    axes.set_xticks(range(len(folds)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(leaves)), leaves, fontsize=7)
    axes.set_frame_on(False)
    axes.tick_params(length=0)
    axes.grid(visible=True, color="#eeeeee", zorder=0)
    axes.set_axisbelow(True)


def _folded_name(move: str) -> str:
    """A leaf's axis, with its own axis number but none of a block."""
    path, axis = move[:-1].rsplit("[", 1) if move.endswith("]") else (move, "")
    text = "".join("#" if c.isdigit() else c for c in path)
    return f"{text}[{axis}]" if axis else text


def _names(folds: Sequence[Fold]) -> dict[str, str]:
    """By leaf and axis, the line it is on: one for all blocks that are folded."""
    moves = [move for fold in folds for move in fold.first.moves]
    blocks = [fold.first.moves for fold in folds if fold.count > 1]
    shared = {_folded_name(move) for own in blocks for move in own}
    return {
        move: _folded_name(move) if _folded_name(move) in shared else move
        for move in moves
    }
