"""Zoos made on so many devices, in a process of its own, or in one of many.

`python -m tests.zoo.on_many OUT --devices N`: a zoo of each kind that is made, below
OUT; the last line is what each of them told of its progress. JAX is imported late: the
number of devices comes first.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any


def main(out: Path) -> None:
    """Makes the zoos, or goes on with them."""
    from qejax import train, zoo
    from qejax.zoo import _shards
    from tests.zoo import test_fit, test_generate, test_import

    print(train.start_processes(), flush=True)
    mesh = train.make_mesh("data=-1")
    data = test_generate._data()
    told: dict[str, list[Any]] = {"generated": [], "fitted": [], "imported": []}
    zoo.generate(
        test_generate.CONFIG,
        data,
        out / "generated",
        lambda x: told["generated"].append((x.networks, x.num_networks, x.resumed)),
        mesh,
    )
    zoo.fit(
        test_fit.changed(chunk=1, together=1),
        test_fit.signals(),
        out / "fitted",
        lambda x: told["fitted"].append((x.fits, x.num_fits, x.resumed)),
        mesh,
    )
    _shards.SHARD_NETWORKS = 5
    zoo.import_zoo(
        test_import.some((7,)),
        out / "imported",
        test_import.RECIPE,
        progress=lambda x: told["imported"].append(
            (x.networks, x.num_networks, x.resumed)
        ),
    )
    print(json.dumps(told))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--devices", type=int, default=1)
    options = parser.parse_args()
    flag = f"--xla_force_host_platform_device_count={options.devices}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
    main(options.out)
