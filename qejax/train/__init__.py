"""Training: the loop, its checkpoints, and the metrics of an evaluation.

`fit` trains any pure loss on in-RAM examples, `fit_stream` on batches that are read
meanwhile; both resume to the bit and select on validation. They know nothing of models
or zoos: experiments bring those together.
"""

from qejax._devices import batch_sharding as batch_sharding
from qejax._devices import replicated as replicated
from qejax._disk import DiskFullError as DiskFullError
from qejax._processes import PeerError as PeerError
from qejax._processes import agree as agree
from qejax._processes import all_rows as all_rows
from qejax._processes import is_first as is_first
from qejax._processes import on_first as on_first
from qejax.train._checkpoint import Checkpoint as Checkpoint
from qejax.train._checkpoint import Checkpointer as Checkpointer
from qejax.train._checkpoint import CheckpointError as CheckpointError
from qejax.train._checkpoint import CheckpointWarning as CheckpointWarning
from qejax.train._config import FitConfig as FitConfig
from qejax.train._config import check_config as check_config
from qejax.train._last_word import leave as leave
from qejax.train._loop import fit as fit
from qejax.train._mesh import make_mesh as make_mesh
from qejax.train._mesh import state_shardings as state_shardings
from qejax.train._metrics import accuracy as accuracy
from qejax.train._metrics import kendall_tau as kendall_tau
from qejax.train._metrics import mae as mae
from qejax.train._metrics import r2 as r2
from qejax.train._progress import Progress as Progress
from qejax.train._run import FitResult as FitResult
from qejax.train._signals import Interrupted as Interrupted
from qejax.train._signals import StopRequest as StopRequest
from qejax.train._signals import catch_signals as catch_signals
from qejax.train._start import Launch as Launch
from qejax.train._start import find_launch as find_launch
from qejax.train._start import start_processes as start_processes
from qejax.train._stream import Batches as Batches
from qejax.train._stream import fit_stream as fit_stream

__all__ = [
    "Batches",
    "Checkpoint",
    "CheckpointError",
    "CheckpointWarning",
    "Checkpointer",
    "DiskFullError",
    "FitConfig",
    "FitResult",
    "Interrupted",
    "Launch",
    "PeerError",
    "Progress",
    "StopRequest",
    "accuracy",
    "agree",
    "all_rows",
    "batch_sharding",
    "catch_signals",
    "check_config",
    "find_launch",
    "fit",
    "fit_stream",
    "is_first",
    "kendall_tau",
    "leave",
    "mae",
    "make_mesh",
    "on_first",
    "r2",
    "replicated",
    "start_processes",
    "state_shardings",
]
