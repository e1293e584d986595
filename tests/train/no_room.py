"""Checkpoints of many processes on a disk that fills up: `python -m ... OUT`.

Prints one JSON line of what this process saw. The disk of the first one is full: its
files cannot grow past a limit.
"""

import json
import resource
import sys
from pathlib import Path


def main(out: Path) -> None:
    """Saves with room, without, and with room again."""
    import numpy as np

    from qejax import train

    train.start_processes(10)
    big = {"a": np.random.default_rng(0).normal(size=100_000)}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    caught = ""
    try:
        with train.Checkpointer(out) as store:
            store.save(1, {"state": big}, {})
            store.wait()
            if train.is_first():
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
            store.save(2, {"state": big}, {})
            store.wait()
    except (OSError, RuntimeError) as error:
        caught = f"{type(error).__name__}: {error}"
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with train.Checkpointer(out) as store:
        before = store.steps()
        store.save(2, {"state": {"a": 2 * big["a"]}}, {})
        store.wait()
        found = store.restore({"state": big})
    same = found is not None and (found.trees["state"]["a"] == 2 * big["a"]).all()
    told = {"caught": caught, "before": before, "same": bool(same)}
    print(json.dumps(told | {"step": found and found.step}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
