"""The rows of the table as strings, for the terminal and for the README."""

from collections.abc import Mapping
from typing import Any

SIGNED = 4.0
"""An error of images in [-1, 1] over the same error in [0, 1]."""


def lines(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns the rows of the table as strings; keys are the headings."""
    table = []
    for edit, rows in metrics["edits"].items():
        for name, row in rows.items():
            mean, sd = row["mse"], row["mse_std"]
            table.append(
                {
                    "edit": edit,
                    "row": name,
                    "params": f"{row['params']:,}" if row["params"] else "-",
                    "MSE [-1,1]": _pm(SIGNED * mean, SIGNED * sd, row["params"]),
                    "MSE [0,1]": _pm(mean, sd, row["params"]),
                    "moved [0,1]": f"{row['mse_moved']:.4f}" if row["params"] else "-",
                    "gap": (f"{row['function_gap']:.0e}" if row["params"] else "-"),
                }
            )
    return table


def note(result: Mapping[str, Any]) -> str:
    """Returns the text under the table of a recorded result."""
    metrics, machine, config = result["metrics"], result["machine"], result["config"]
    fits, grid = metrics["fits"], " x ".join(map(str, config["shape"]))
    values = "[0, 1] around 0.5" if fits["offset"] else "[-1, 1]"
    # Zoos of other makers do not say.
    counted = "".join(
        f", {fits[name]} {words}"
        for name, words in (
            ("short", "short of what was wanted"),
            ("diverged", "diverged"),
        )
        if name in fits
    )
    return (
        f"`{result['command']}`: networks {fits['network']} of {grid} images fitted as "
        f"{values} (median {fits['psnr']:.1f} dB{counted}), {fits['train']} to train "
        f"on, "
        f"{fits['val']} to select by, {fits['test']} in the table; targets are edits "
        f"of the rendered image; moved: all test networks by random signs, half "
        f"periods, scales and order; "
        f"{config['steps']} steps of {config['batch']} networks; {result['seeds']} "
        f"seeds from seed {result['seed']}, {metrics['seconds'] / 60:.1f} minutes on "
        f"{machine['cpus']} CPUs, jax {result['versions']['jax']}.\n"
    )


def _pm(mean: float, sd: float, spread: int) -> str:
    return f"{mean:.4f} ± {sd:.4f}" if spread else f"{mean:.4f}"
