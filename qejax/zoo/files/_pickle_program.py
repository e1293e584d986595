"""What a pickle describes, without `pickle`: nothing in it is imported or run.

A pickle is a program, and `pickle` would run it. Here `pickletools` takes it apart into
opcodes, which runs nothing, and those that build plain values are followed. Functions
and classes in it stay names: a table of the caller says what is made where one of them
is called, and no other is known.
"""

import pickletools
import reprlib
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from qejax.zoo.files._budget import Budget, Unfit
from qejax.zoo.files._stream import Stream

Make = Callable[[tuple[Any, ...]], Any]
"""From the arguments of a call to what it makes.

Arguments are compared only once their types are known: an array compares to an array.
"""

SHORT = reprlib.Repr()  # never the whole of a value: it may be endless
SHORT.maxlevel = 3

ADVICE = (
    "Save `model.state_dict()` with torch.save again, or arrays as .npz, or fetch the "
    "file again."
)


class Global(NamedTuple):
    """A function or class that a pickle names: its name and nothing more."""

    name: str


class Unknown(NamedTuple):
    """A global of no table, or what it would have made. It absorbs what is done to it.

    Only made where the caller said that parts of the file are to be ignored.
    """

    name: str
    position: int


class Built:
    """An object that is made first and told its state later, by BUILD.

    Others may hold it by then, so what it stands for is looked up at the end.
    """

    def __init__(self, value: Any, build: Callable[[Any], Any]) -> None:
        self.value, self._build = value, build

    def build(self, state: Any) -> None:
        """Sets what it stands for."""
        self.value = self._build(state)


class Names(NamedTuple):
    """What the names in a pickle stand for.

    Attributes:
        table: what is made by a call, by `module name`; None where it is only named.
        records: last names of classes whose instances are read as dictionaries of
            their attributes, of any module.
        persistent: what a persistent id stands for; None if there are none.
        unknown: whether other names are read as `Unknown`, not refused.
    """

    table: Mapping[str, Make | None]
    records: Collection[str] = ()
    persistent: Make | None = None
    unknown: bool = False


def record(arguments: tuple[Any, ...]) -> Built:
    """Returns an instance of a class, read as a dictionary of its attributes."""
    if arguments:
        raise Unfit("an instance that is made without arguments", arguments)
    return Built({}, _attributes)


def _attributes(state: Any) -> dict[Any, Any]:
    match state:
        # Never a copy: a file could ask for many of them. The second is of slots.
        case (dict() as fields) | (dict(fields), None) | (None, dict(fields)):
            return fields
    raise Unfit("an instance whose state is a dictionary", state)


class Program:
    """A pickle, followed opcode by opcode."""

    def __init__(self, where: str, names: Names, budget: Budget) -> None:
        self._where, self._names, self._budget = where, names, budget
        self._position = 0
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []  # the stacks below the marks
        self._memo: dict[int, Any] = {}

    def run(self, stream: Stream) -> Any:
        """Returns the value, and leaves the stream behind the pickle.

        Raises:
            ValueError: if it is damaged, names what it should not, or takes more than
                the budget; says where, expected, found, and what to do.
        """
        for name, argument, position in self._opcodes(stream):
            self._position = position
            try:
                self._budget.step()
                self._step(name, argument)
            except Unfit as error:
                raise self._error(error.expected, error.found) from error
            except (IndexError, KeyError) as error:
                raise self._error(f"what opcode {name} takes", str(error)) from error
        if len(self._stack) != 1 or self._outer:
            raise self._error("one value at the end of the pickle", self._stack)
        return self._stack[0]

    def _error(self, expected: str, found: object) -> ValueError:
        """Says where, expected, found, and what to do."""
        return ValueError(
            f"{self._where}, byte {self._position}: expected {expected}, got "
            f"{SHORT.repr(found)[:200]}. {ADVICE}"
        )

    def _opcodes(self, stream: Stream) -> Iterator[tuple[str, Any, int]]:
        found = pickletools.genops(stream)  # type: ignore[arg-type]
        try:
            while True:
                # Of escapes in a text: whoever wrote it should know, not who reads it.
                with warnings.catch_warnings(action="ignore"):
                    one = next(found, None)
                if one is None:
                    return
                opcode, argument, position = one
                yield opcode.name, argument, position or 0
        except ValueError as error:
            raise self._error("a whole pickle", str(error)) from error

    def _step(self, name: str, argument: Any) -> None:
        """Follows one opcode; the names are those of `pickletools`."""
        stack = self._stack
        match name:
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case _ if name in _PLAIN:
                stack.append(argument)
            case _ if name in _CONSTANTS:
                stack.append(_CONSTANTS[name]())
            case "MARK":
                self._outer.append(stack)
                self._stack = []
            case "TUPLE":
                items = tuple(self._above_mark())
                self._stack.append(items)
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = [stack.pop() for _ in range(int(name[-1]))]
                stack.append(tuple(reversed(items)))
            case "APPEND":
                self._extend([stack.pop()])
            case "APPENDS":
                self._extend(self._above_mark())
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._update([key, value])
            case "SETITEMS":
                self._update(self._above_mark())
            case "GLOBAL":
                stack.append(self._global(argument))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                both = type(attribute) is type(module) is str
                stack.append(self._global(f"{module} {attribute}" if both else ""))
            case "BINPERSID":
                stack.append(self._persistent(stack.pop()))
            case "REDUCE" | "NEWOBJ":
                arguments, called = stack.pop(), stack.pop()
                stack.append(self._call(called, arguments))
            case "BUILD":
                state = stack.pop()
                self._build(stack[-1], state)
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _:
                raise Unfit("an opcode of plain values and tensors", name)

    def _above_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._outer.pop()
        return items

    def _extend(self, items: list[Any]) -> None:
        match self._stack[-1]:
            case Unknown():
                pass
            case list() as target:
                target.extend(items)
            case other:
                raise Unfit("a list to append to", other)

    def _update(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Unknown):
            return
        if not isinstance(target, dict) or len(items) % 2:
            raise Unfit("a dictionary with keys and values", target)
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Nothing else is hashed: tuples in tuples could be too deep for it.
            if type(key) not in (str, int):
                raise Unfit("strings or integers as keys", key)
            target[key] = value

    def _global(self, name: str) -> Global | Unknown:
        if name in self._names.table or _last(name) in self._names.records:
            return Global(name)
        if self._names.unknown:
            return Unknown(name, self._position)
        raise ValueError(
            f"{self._where}, byte {self._position}, names "
            f"{name.replace(' ', '.')[:80]!r}, which was neither imported nor run: "
            f"expected tensors, dictionaries and plain values only. Save "
            f"`model.state_dict()`, or read the file without the part that holds it."
        )

    def _persistent(self, key: Any) -> Any:
        if self._names.persistent is None:
            raise Unfit("no persistent id outside of torch.save", key)
        return self._names.persistent(key)

    def _call(self, called: Any, arguments: Any) -> Any:
        if isinstance(called, Unknown):
            return called
        if isinstance(called, Global) and type(arguments) is tuple:
            inner = arguments[0] if arguments else None
            if called.name in RECONSTRUCTORS and type(inner) in (Global, Unknown):
                # How protocols 0 and 1 made what NEWOBJ makes: by class, base, state.
                return self._call(inner, ())
            # The table goes first: a class may be known by more than its name.
            make = self._names.table.get(called.name)
            if make is None and _last(called.name) in self._names.records:
                make = record
            if make is not None:
                return make(arguments)
        raise Unfit("arguments that fit what they build", (called, arguments))

    def _build(self, target: Any, state: Any) -> None:
        match target:
            case Unknown():
                pass
            case Built():
                target.build(state)
            case dict() if isinstance(state, dict):
                pass  # attributes: `_metadata`, the versions of modules
            case _:
                raise Unfit("attributes of a dictionary only", target)


RECONSTRUCTORS = ("copyreg _reconstructor", "copy_reg _reconstructor")

_PLAIN = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
"""Opcodes that push their argument."""

_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}


def _last(name: str) -> str:
    return name.replace(" ", ".").rpartition(".")[2]
