"""What the names of Python, OmegaConf and Lightning in a pickle stand for: values.

Protocol 2 has the module names of Python 2, and no bytes: they are text that is encoded
in `latin1`.
"""

from collections.abc import Callable
from typing import Any

from qejax.zoo.files._budget import Unfit
from qejax.zoo.files._pickle_program import (
    RECONSTRUCTORS,
    Built,
    Global,
    Make,
    record,
)


def _dictionary(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    match arguments:
        case () | (Global(),):  # the second is what a defaultdict makes by default
            return {}
    raise Unfit("a dictionary that is made empty", arguments)


def _counter(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    match arguments:
        case () | (dict(),):  # counts of a schedule, which no field has
            return {}
    raise Unfit("a counter that is made of a dictionary", arguments)


def _encode(arguments: tuple[Any, ...]) -> bytes:
    match arguments:
        case (str(text), str(encoding)) if encoding in ("latin1", "latin-1"):
            try:
                return text.encode("latin1")
            except UnicodeEncodeError as error:
                raise Unfit("bytes as text in latin1", str(error)) from error
    raise Unfit("bytes as text in latin1", arguments)


def _bytes(arguments: tuple[Any, ...]) -> bytes | bytearray:
    match arguments:
        case ():
            return b""
        case (bytes() | bytearray() as content,):
            return content
    raise Unfit("bytes that are made from bytes", arguments)


def _dropped(arguments: tuple[Any, ...]) -> Global:
    """A value of a kind that no field has, such as a date."""
    return Global("dropped")


def _part(key: str) -> Callable[[tuple[Any, ...]], Built]:
    """Returns how to read an object as the one attribute that holds its value."""

    def make(arguments: tuple[Any, ...]) -> Built:
        if arguments:
            raise Unfit("a node that is made without arguments", arguments)
        return Built(None, value)

    def value(state: Any) -> Any:
        if type(state) is not dict or key not in state:
            raise Unfit(f"a node whose state has {key!r}", state)
        return state[key]

    return make


_NODES = "Any String Path Integer Bytes Float Boolean Enum"
_TYPES = "object bool int long float str unicode bytes list tuple dict"
_LIGHTNING = (
    "pytorch_lightning.utilities.parsing",
    "lightning.pytorch.utilities.parsing",
    "lightning_fabric.utilities.data",
    "lightning.fabric.utilities.data",
)
_TYPING = "Any Dict List Optional Tuple Union"

PLAIN: dict[str, Make | None] = {
    "collections OrderedDict": _dictionary,
    "collections defaultdict": _dictionary,
    "collections Counter": _counter,
    "argparse Namespace": record,
    **{f"{module} AttributeDict": _dictionary for module in _LIGHTNING},
    "torch device": _dropped,
    "_codecs encode": _encode,
    **{f"{m} bytes": _bytes for m in ("builtins", "__builtin__")},
    **{f"{m} bytearray": _bytes for m in ("builtins", "__builtin__")},
    **{name: None for name in RECONSTRUCTORS},
    **{f"builtins {kind}": None for kind in _TYPES.split() if kind != "bytes"},
    **{f"__builtin__ {kind}": None for kind in _TYPES.split() if kind != "bytes"},
    **{f"typing {kind}": None for kind in _TYPING.split()},
    **{f"datetime {kind}": _dropped for kind in ("datetime", "date", "timedelta")},
    **{f"pathlib {kind}": _dropped for kind in ("PosixPath", "PurePosixPath")},
    **{f"omegaconf.nodes {kind}Node": _part("_val") for kind in _NODES.split()},
    "omegaconf.nodes UnionNode": _part("_content"),
    "omegaconf.dictconfig DictConfig": _part("_content"),
    "omegaconf.listconfig ListConfig": _part("_content"),
    "omegaconf.base Metadata": record,
    "omegaconf.base ContainerMetadata": record,
}
"""Made by a call, by `module name`; None where it is only named."""
