"""Which messages the package raises, and which of them a test matches.

Approximate, by words: a message counts as matched if one of its phrases that no other
message of its room has is in a `match=` of the room's tests, or one that no other
message at all has is in any `match=`. Values that are filled in are wildcards.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, TypeAlias

Phrase: TypeAlias = tuple[str, ...]

WILD = "|"


class Raised(NamedTuple):
    """A `raise` of the package: its place, its room, its words, all its phrases."""

    where: str
    room: str
    text: str
    phrases: frozenset[Phrase]


def raised(package: Path) -> list[Raised]:
    """Returns every `raise` with a message, in the files of the package."""
    found = []
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text())
        name = str(path.relative_to(package.parent))
        room = path.relative_to(package).parts[0].removesuffix(".py")
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                text = _message(node.exc, tree)
                words = _phrases(_words(text))
                found.append(Raised(f"{name}:{node.lineno}", room, text, words))
    return found


def unmatched(package: Path, tests: Path) -> list[Raised]:
    """Returns the raises of the package whose message no test matches."""
    messages = raised(package)
    everywhere = _expected(sorted(tests.rglob("*.py")))
    total = _count(messages)
    missing = []
    for message in messages:
        neighbours = _count(other for other in messages if other.room == message.room)
        here = _expected(sorted((tests / message.room).rglob("*.py")))
        if not any(
            (neighbours[phrase] == 1 and phrase in here)
            or (total[phrase] == 1 and phrase in everywhere)
            for phrase in message.phrases
        ):
            missing.append(message)
    return missing


def _count(messages: Iterable[Raised]) -> Counter[Phrase]:
    """Counts phrases over different messages."""
    texts = {message.text: message.phrases for message in messages}
    return Counter(phrase for phrases in texts.values() for phrase in phrases)


def _message(call: ast.Call, tree: ast.Module) -> str:
    """Returns the fixed words of an error, looking through names and helpers."""
    text = WILD.join(_literal(part, tree) for part in _arguments(call))
    if _phrases(_words(text)):
        return text
    called = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in ast.walk(call)
        if isinstance(node, ast.Attribute | ast.Name)
    }
    bodies = [
        statement
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name in called
        for statement in node.body[1:]
    ]
    return WILD.join(_strings(bodies)) or text


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def _literal(node: ast.AST, tree: ast.Module) -> str:
    """Returns the fixed text of an expression, with a bar for what is filled in."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_literal(value, tree) for value in values)
        case ast.FormattedValue(value=ast.Name() as value):
            return _literal(value, tree)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return _literal(left, tree) + _literal(right, tree)
        case ast.Name(id=name):
            values = [value for target, value in _assigned(tree) if target == name]
            plain = (ast.Constant, ast.JoinedStr, ast.BinOp)
            if len(values) == 1 and isinstance(values[0], plain):
                return _literal(values[0], tree)
            return WILD
        case ast.Call(func=ast.Attribute(attr="format", value=text)):
            return re.sub(r"\{\w*\}", WILD, _literal(text, tree))
        case ast.Call():
            return WILD.join(_literal(part, tree) for part in _arguments(node)) or WILD
        case _:
            return WILD


def _assigned(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yields names with what is assigned to them, at any depth."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            yield from ((ast.unparse(target), node.value) for target in node.targets)
        elif isinstance(node, ast.AnnAssign) and node.value:
            yield ast.unparse(node.target), node.value


def _strings(sources: Iterable[ast.AST]) -> list[str]:
    return [
        node.value
        for source in sources
        for node in ast.walk(source)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def _words(text: str) -> list[str]:
    return re.findall(r"[\w']+|\|", text)


def _phrases(words: list[str]) -> frozenset[Phrase]:
    """Returns runs of two words, and of three whose middle may be a wildcard."""
    pairs = {pair for pair in pairwise(words) if WILD not in pair}
    threes = zip(words, words[1:], words[2:], strict=False)
    return frozenset(pairs | {t for t in threes if WILD not in (t[0], t[2])})


def _expected(paths: Iterable[Path]) -> set[Phrase]:
    """Returns the phrases of every string that a `pytest.raises` may match with.

    These are the strings inside functions (decorators included) that have a `match=`,
    and what is assigned in the module to names that such a function uses.
    """
    found: set[Phrase] = set()
    for path in paths:
        if path not in _CACHE:
            _CACHE[path] = _expected_in(ast.parse(path.read_text()))
        found |= _CACHE[path]
    return found


_CACHE: dict[Path, set[Phrase]] = {}


def _expected_in(tree: ast.Module) -> set[Phrase]:
    assigned = list(_assigned(tree))
    texts: list[str] = []
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        inside = list(ast.walk(function))
        if any(
            isinstance(node, ast.keyword) and node.arg == "match" for node in inside
        ):
            used = {node.id for node in inside if isinstance(node, ast.Name)}
            sources = [value for name, value in assigned if name in used]
            texts += _strings([function, *sources])
    found: set[Phrase] = set()
    for text in texts:
        # Escaped punctuation is itself; other escapes and `.*` are any words.
        plain = re.sub(r"\\([^\w])", r"\1", text)
        words = _words(re.sub(r"\\[dwsS][+*]?|\.[*+]\??", f" {WILD} ", plain))
        threes = list(zip(words, words[1:], words[2:], strict=False))
        found |= {*pairwise(words), *threes, *((a, WILD, c) for a, _, c in threes)}
    return found
