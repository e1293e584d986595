"""A predictor is saved over an older one, and the saving is killed."""

import random
import shutil
import signal
from functools import cache
from pathlib import Path
from typing import NamedTuple

from benchmarks import _fault_jobs as jobs
from benchmarks._fault_kinds import job_line, sleep
from benchmarks._fault_processes import Ended, Job
from benchmarks.harness import Record

FILES = ["model.json", "weights.safetensors"]


class Untouched(NamedTuple):
    """What saving comes to when nobody touches it.

    Attributes:
        old: the folder of the older predictor.
        predictions: digests of what both predict, "old" and "new".
        seconds: that saving over the older one took.
    """

    old: Path
    predictions: dict[str, str]
    seconds: float


def saved(out: Path, work: Path, seed: int) -> Ended:
    """Saves the predictor of a seed."""
    ended = _begun(out, work, seed).end()
    assert ended.status == 0, "\n".join(ended.err)
    return ended


def _begun(out: Path, work: Path, seed: int) -> Job:
    return Job(job_line("save", str(out), "--seed", str(seed)), work)


def untouched(work: Path) -> Untouched:
    """Saves one predictor, and another one over a copy of it."""
    old, new = work / "old", work / "new"
    saved(old, work, 0)
    shutil.copytree(old, new)
    seconds = saved(new, work, 1).told()["seconds"]
    predictions = {"old": predicted(old), "new": predicted(new)}
    assert predictions["old"] != predictions["new"]
    return Untouched(old, predictions, seconds)


def predicted(folder: Path) -> str:
    """Returns a digest of what a saved predictor predicts, or why it cannot be read."""
    from qejax import models

    try:
        model = models.load(folder)
    except ValueError as error:
        return str(error)
    return jobs.digest([model(_theta())])


@cache
def _theta() -> object:
    import jax

    return jobs.network().init(jax.random.key(5))


def killed_save(work: Path, want: Untouched, draw: random.Random) -> Record:
    """SIGKILL at a random moment: the old one or the new one is there, whole."""
    place = work / "row"
    out = place / "predictor"
    shutil.copytree(want.old, out)
    job = _begun(out, work, 1)
    job.wait_until(lambda: "saving" in job.lines())
    sleep(job, draw.uniform(0, want.seconds), None)
    ended = job.end(signal.SIGKILL)
    record: Record = {"status": ended.status}
    # Names with a dot are drafts, and no predictors.
    folders = [path.parent for path in place.rglob("model.json")]
    alone = [path for path in folders if not path.name.startswith(".")] == [out]
    found = predicted(out)
    names = {value: name for name, value in want.predictions.items()}
    record |= {"outcome": names.get(found, found), "alone": alone}
    record["left"] = sorted(
        path.name for path in (*place.iterdir(), *out.iterdir()) if path.name[0] == "."
    )
    saved(out, work, 1)
    clean = sorted(path.name for path in out.iterdir()) == FILES
    record["numbers"] = predicted(out) == want.predictions["new"]
    record["right"] = (
        record["numbers"]
        and found in names
        and alone
        and clean
        and ended.status == -signal.SIGKILL
    )
    return record
