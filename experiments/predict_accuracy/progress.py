"""Progress bars whose time left is computed from what was measured.

A plan is a list of named pieces of work, each of a kind. The time left is the work
left of each kind times the seconds that a unit of that kind has taken in this run. A
kind of which nothing was done yet counts with its estimate, times how much slower or
faster than estimated the work so far was. Work found finished costs nothing.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text


@dataclass
class Kind:
    """Work of one kind.

    Attributes:
        estimate: seconds a unit is expected to take before any was measured.
        planned: units in the whole run.
        done: units finished in this run or found finished.
        measured: seconds spent on the units that this run did itself.
        own: units that this run did itself.
    """

    estimate: float
    planned: float = 0.0
    done: float = 0.0
    measured: float = 0.0
    own: float = 0.0

    def left(self, slowness: float) -> float:
        """Returns the seconds left, on a machine that is `slowness` times as slow."""
        measured = self.own > 0
        rate = self.measured / self.own if measured else self.estimate * slowness
        return max(self.planned - self.done, 0.0) * rate


@dataclass
class Plan:
    """All work of a run by kind."""

    kinds: dict[str, Kind] = field(default_factory=dict)

    def add(self, kind: str, units: float, estimate: float) -> None:
        """Plans `units` of work of a kind at `estimate` seconds each."""
        self.kinds.setdefault(kind, Kind(estimate)).planned += units

    def scale(self, factor: float) -> None:
        """Multiplies the work of every kind that was not begun."""
        for kind in self.kinds.values():
            if kind.done == 0:
                kind.planned *= factor

    @property
    def spent(self) -> float:
        """Seconds spent on planned work."""
        return sum(kind.measured for kind in tuple(self.kinds.values()))

    @property
    def left(self) -> float:
        """Seconds left."""
        # The bar reads this from a thread of its own while kinds are added: a copy.
        kinds = tuple(self.kinds.values())
        expected = sum(kind.own * kind.estimate for kind in kinds)
        slowness = self.spent / expected if expected > 0 else 1.0
        return sum(kind.left(slowness) for kind in kinds)

    @property
    def fraction(self) -> float:
        """Share of the work that is done, by seconds."""
        total = self.spent + self.left
        return 1.0 if total <= 0 else self.spent / total


def clock(seconds: float) -> str:
    """Returns minutes and seconds.

    Example:
        >>> clock(125.4)
        '2:05'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class _Left(ProgressColumn):
    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self._plan = plan

    def render(self, task: Task) -> Text:
        del task
        return Text(f"about {clock(self._plan.left)} left")


class Bars:
    """The progress bar of a run: one line, and one printed line per finished piece.

    Attributes:
        plan: fill it before work starts.
        console: where lines go; a pipe gets the lines without the bar.
    """

    def __init__(self, console: Console) -> None:
        self.plan = Plan()
        self.console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            _Left(self.plan),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("starting", total=1.0)

    def __enter__(self) -> "Bars":
        """Shows the bar."""
        # Its lazy imports replace `__import__` for a moment, which the thread that
        # draws the bar must not meet: zoos are read and written under it.
        import tensorflow_datasets  # noqa: F401

        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Removes the bar."""
        self._progress.stop()

    @contextmanager
    def work(self, name: str, kind: str, units: float = 1.0) -> "Iterator[Piece]":
        """Measures one piece of work; call `Piece.advance` as it goes."""
        piece = Piece(self, self.plan.kinds[kind], units)
        self._show(name)
        yield piece
        piece.finish()
        self.line(f"{name}: {piece.seconds:.1f} s")

    def line(self, text: str) -> None:
        """Prints a line above the bar, with the time left."""
        left = clock(self.plan.left)
        self.console.print(f"{text} [dim]({left} left)[/dim]", highlight=False)

    def _show(self, description: str | None = None) -> None:
        self._progress.update(
            self._task, completed=self.plan.fraction, description=description
        )


class Piece:
    """A piece of work under way."""

    def __init__(self, bars: Bars, kind: Kind, units: float) -> None:
        self._bars, self._kind, self._units = bars, kind, units
        self._start = self._last = time.monotonic()
        self._share = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the piece began."""
        return time.monotonic() - self._start

    def advance(self, share: float, found: float = 0.0) -> None:
        """Says that a share of the piece is done.

        Args:
            share: done by now, in `[0, 1]`.
            found: share that an earlier run had done. It costs nothing, and says
                nothing about the speed of this machine.
        """
        now, share = time.monotonic(), min(share, 1.0)
        own = max(share - max(self._share, found), 0.0) * self._units
        self._kind.done += max(share - self._share, 0.0) * self._units
        self._kind.own += own
        self._kind.measured += now - self._last if own > 0 else 0.0
        self._last, self._share = now, max(share, self._share)
        self._bars._show()

    def finish(self) -> None:
        """Says that the piece is done."""
        self.advance(1.0)
