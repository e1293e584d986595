"""What processes agree on, in a process of its own: `python -m tests.train.together`.

Prints one JSON line of what this process was told.
"""

import json


def main() -> None:
    """Asks the other processes, and prints what they say."""
    import jax
    import numpy as np

    from qejax import spaces, train
    from qejax._processes import gather_json

    train.start_processes()
    me = jax.process_index()

    def only_first() -> str:
        return f"of {me}"

    def damaged() -> None:
        raise OSError("the disk is full")

    caught = ""
    try:
        train.on_first(damaged)
    except (OSError, RuntimeError) as error:
        caught = f"{type(error).__name__}: {error}"
    rows = {"x": np.arange(3 * me + 1, dtype=np.float64) + 10 * me}
    rows["y"] = np.array([me % 2 == 0] * (3 * me + 1))
    found = train.all_rows(rows)
    mesh = train.make_mesh("data=-1")
    mapped = spaces.map_networks(
        lambda theta, shift: theta["w"].sum() * shift,
        {"w": np.arange(10.0, dtype=np.float32).reshape(5, 2)},
        np.float32(2),
        batch_size=3,
        mesh=mesh,
    )
    told = {
        "mapped": np.asarray(mapped).tolist(),
        "devices": dict(mesh.shape),
        "agreed": train.agree(me, 2**40 + me).tolist(),
        "json": gather_json({"of": "é" * (me + 1)}),
        "first": train.on_first(only_first),
        "caught": caught,
        "rows": {name: x.tolist() for name, x in found.items()},
        "is_first": train.is_first(),
        "processes": jax.process_count(),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
