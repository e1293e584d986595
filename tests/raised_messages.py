"""Which messages the package raises, and which of them a test matches.

Approximate, by words; values that are filled in are wildcards. A message counts as
matched if one of its phrases that no other message of its room has is in a `match=` of
the room's tests, or one that no other message at all has is in any `match=`, or if a
whole `match=` of the room's tests fits it with at least three words in common.
"""

import ast
import functools
import math
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
    everywhere = _phrases_of(_expected(tests))
    total = _count(messages)
    missing = []
    for message in messages:
        neighbours = _count(other for other in messages if other.room == message.room)
        expected = _expected(tests / message.room)
        here = _phrases_of(expected)
        if any(
            (neighbours[phrase] == 1 and phrase in here)
            or (total[phrase] == 1 and phrase in everywhere)
            for phrase in message.phrases
        ):
            continue
        words = tuple(_words(message.text))
        if not any(_common(test, words) >= 3 for test in expected):
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


def _phrases_of(expected: frozenset[tuple[str, ...]]) -> frozenset[Phrase]:
    """Returns the phrases of strings to match with; any middle word may be wild."""
    if expected not in _PHRASES:
        found: set[Phrase] = set()
        for words in expected:
            threes = list(zip(words, words[1:], words[2:], strict=False))
            found |= {*pairwise(words), *threes, *((a, WILD, c) for a, _, c in threes)}
        _PHRASES[expected] = frozenset(found)
    return _PHRASES[expected]


_PHRASES: dict[frozenset[tuple[str, ...]], frozenset[Phrase]] = {}


def _common(test: tuple[str, ...], message: tuple[str, ...]) -> int:
    """Returns how many words two templates share where `test` fits into `message`.

    A wildcard of either stands for any words of the other, or none; 0 if nowhere.
    """
    if len(set(test) & set(message) - {WILD}) < 3:
        return 0

    @functools.cache
    def rest(i: int, j: int) -> float:
        if i == len(test):
            return 0
        if j == len(message):
            return 0 if set(test[i:]) == {WILD} else -math.inf
        options = [-math.inf]
        if test[i] == WILD:
            options += [rest(i + 1, j), rest(i, j + 1)]
        if message[j] == WILD:
            options += [rest(i, j + 1), rest(i + 1, j)]
        if test[i] == message[j] != WILD:
            options.append(1 + rest(i + 1, j + 1))
        return max(options)

    return int(max(0, *(rest(0, j) for j in range(len(message)))))


@functools.cache
def _expected(folder: Path) -> frozenset[tuple[str, ...]]:
    """Returns the words of every string that a `pytest.raises` may match with.

    These are the strings inside functions (decorators included) that have a `match=`,
    and what is assigned in the module to names that such a function uses.
    """
    found: set[tuple[str, ...]] = set()
    for path in sorted(folder.rglob("*.py")):
        tree = ast.parse(path.read_text())
        assigned = list(_assigned(tree))
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            inside = list(ast.walk(function))
            if any(isinstance(n, ast.keyword) and n.arg == "match" for n in inside):
                used = {node.id for node in inside if isinstance(node, ast.Name)}
                sources = [value for name, value in assigned if name in used]
                found |= {_regex_words(text) for text in _strings([function, *sources])}
    return frozenset(found)


def _regex_words(text: str) -> tuple[str, ...]:
    """Returns the words of a pattern; `.*` and escapes of no punctuation are wild."""
    plain = re.sub(r"\\([^\w])", r"\1", text)
    return tuple(_words(re.sub(r"\\[dwsS][+*]?|\.[*+]\??", f" {WILD} ", plain)))
