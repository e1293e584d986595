"""Where an experiment runs: on one device, or on a mesh, of one process or of many."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qejax._disk import room
from qejax._processes import is_first

if TYPE_CHECKING:
    from jax.sharding import Mesh

FIELDS = ("mesh",)
"""Fields of a config that decide where it runs, and no number but for rounding."""


@dataclass(frozen=True, kw_only=True)
class OnDevices:
    """What every experiment is told of devices.

    Attributes:
        mesh: how devices are cut: `data=-1,model=1` takes all of them for batches of
            networks. Empty is one device, or `data=-1` where there are many processes.
    """

    mesh: str = ""


def mesh_of(config: OnDevices) -> "Mesh | None":
    """Returns the mesh of a config; None for one device.

    Raises:
        ValueError: if `--mesh` does not fit the devices.
    """
    import jax

    text = config.mesh or ("data=-1" if jax.process_count() > 1 else "")
    return _made(text) if text else None


@functools.lru_cache
def _made(text: str) -> "Mesh":
    from qejax.train import make_mesh

    try:
        return make_mesh(text)
    except ValueError as error:
        raise ValueError(f"--mesh: {error}") from error


def apart(batch: Any, count: int, mesh: "Mesh | None") -> Any:
    """Returns a batch cut into `count` parts, leaves `[count, B / count, ...]`.

    Args:
        batch: leaves `[B, ...]`.
        count: of models that are trained side by side, each on a part.
        mesh: whose devices share every part.
    """
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    size = len(jax.tree.leaves(batch)[0]) // count
    parts = jax.tree.map(lambda x: x.reshape(count, size, *x.shape[1:]), batch)
    if mesh is None:
        return parts
    # Devices share each part, not the parts: models are trained in turn.
    cut = NamedSharding(mesh, PartitionSpec(None, "data"))
    return jax.lax.with_sharding_constraint(parts, cut)


def save_figure(figure: Any, path: Path, **options: Any) -> None:
    """Writes a figure; of many processes the first one does."""
    if is_first():
        with room(path):
            figure.savefig(path, **options)
