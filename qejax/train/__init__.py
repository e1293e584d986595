"""Training: the loop, its checkpoints, and the metrics of an evaluation.

`fit` trains any pure loss on in-RAM examples, `fit_stream` on batches that are read
meanwhile; both resume to the bit and select on validation. They know nothing of models
or zoos: experiments bring those together.
"""

from qejax.train._checkpoint import Checkpoint as Checkpoint
from qejax.train._checkpoint import Checkpointer as Checkpointer
from qejax.train._checkpoint import CheckpointError as CheckpointError
from qejax.train._checkpoint import CheckpointWarning as CheckpointWarning
from qejax.train._config import FitConfig as FitConfig
from qejax.train._config import check_config as check_config
from qejax.train._loop import fit as fit
from qejax.train._mesh import batch_sharding as batch_sharding
from qejax.train._mesh import make_mesh as make_mesh
from qejax.train._mesh import replicated as replicated
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
from qejax.train._stream import Batches as Batches
from qejax.train._stream import fit_stream as fit_stream

__all__ = [
    "Batches",
    "Checkpoint",
    "CheckpointError",
    "CheckpointWarning",
    "Checkpointer",
    "FitConfig",
    "FitResult",
    "Interrupted",
    "Progress",
    "StopRequest",
    "accuracy",
    "batch_sharding",
    "catch_signals",
    "check_config",
    "fit",
    "fit_stream",
    "kendall_tau",
    "mae",
    "make_mesh",
    "r2",
    "replicated",
    "state_shardings",
]
