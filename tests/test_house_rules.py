"""The house rules that a parser can check; every offence is named with its line.

Lint, types and the order of rooms are checked by ruff, pyright and import-linter in
`.ci/run`; the README by `test_readme.py`; presets by `tests/experiments`.
"""

import ast
import functools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.raised_messages import raised, unmatched

ROOT = Path(__file__).parents[1]
PACKAGE = ("qejax",)
CODE = ("qejax", "experiments", "benchmarks")
ALL = (*CODE, "tests")
MAX_FILE, MAX_FUNCTION = 400, 80

UNTESTED_RAISES = {
    "qejax/spaces/_elements.py: unit space ||: |": (
        "puts the unit space before the message of the group's own check"
    ),
}
"""`file: first 20 characters of the message` of a raise without a test, and why."""


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def files(tops: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    for top in tops:
        for path in sorted((ROOT / top).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path


@functools.cache
def nodes(tops: tuple[str, ...]) -> list[tuple[str, ast.AST]]:
    return [
        (f"{name}:{getattr(node, 'lineno', 1)}", node)
        for name, path in files(tops)
        for node in ast.walk(parsed(path))
    ]


@functools.cache
def calls(tops: tuple[str, ...]) -> list[tuple[str, str, ast.Call]]:
    """Returns every call with the dotted name of what is called."""
    return [
        (where, ast.unparse(node.func), node)
        for where, node in nodes(tops)
        if isinstance(node, ast.Call)
    ]


def imports(tops: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for where, node in nodes(tops):
        if isinstance(node, ast.Import):
            yield from ((where, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield where, node.module


def assert_none(found: list[str]) -> None:
    assert not found, "\n".join(["", *found])


def test_the_rules_see_the_code() -> None:
    """A control: an empty walk would pass every rule below."""
    seen = {name for name, _ in files(ALL)}
    assert {"qejax/_trees.py", "tests/test_house_rules.py"} <= seen
    assert len(raised(ROOT / "qejax")) > 50
    assert any(name == "print" for _, name, _ in calls(("experiments", "tests")))


def test_files_are_short() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in files(ALL)}
    assert_none([f"{name}: {n}" for name, n in lengths.items() if n > MAX_FILE])


def test_factorisations_are_in_one_file() -> None:
    """Batches of LAPACK calls can deadlock on a CPU; `groups/_linalg.py` knows how."""
    one = "qejax/groups/_linalg.py"
    found = [
        f"{where} {name}"
        for where, name, _ in calls(PACKAGE)
        if "linalg." in name and not name.startswith(("np.", "_linalg."))
    ]
    assert any(line.startswith(one) for line in found)
    assert_none([line for line in found if not line.startswith(one)])


def test_functions_are_short() -> None:
    long = []
    for where, node in nodes(ALL):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION:
                long.append(f"{where} {node.name}: {length}")
    assert_none(long)


def test_names_say_something() -> None:
    empty = ("util", "utils", "common", "misc", "helpers")
    assert_none([name for name, path in files(ALL) if path.stem.strip("_") in empty])


@pytest.mark.parametrize(
    ("name", "tops"),
    [
        ("print", PACKAGE),  # results are returned, or logged by the experiments
        ("hash", CODE),  # differs between processes: nothing may be seeded with it
        ("eval", CODE),
        ("exec", CODE),
        ("torch.load", PACKAGE),
        ("compile", CODE),
    ],
)
def test_builtins_that_are_never_called(name: str, tops: tuple[str, ...]) -> None:
    assert_none([where for where, called, _ in calls(tops) if called == name])


def test_reading_a_file_never_runs_it() -> None:
    banned = ("pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib")
    found = [
        f"{where} imports {name}"
        for where, name in imports(CODE)
        if name.split(".")[0] in banned
    ]
    for where, called, call in calls(CODE):
        for keyword in call.keywords:
            if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False":
                found.append(f"{where} {called}(allow_pickle=...)")
    assert_none(found)


def test_no_bare_except() -> None:
    assert_none(
        [
            where
            for where, node in nodes(ALL)
            if isinstance(node, ast.ExceptHandler) and node.type is None
        ]
    )


def test_two_files_import_orbax() -> None:
    """Our own checkpoints, and those of others."""
    found = [where for where, name in imports(CODE) if name.split(".")[0] == "orbax"]
    assert {where.split(":")[0] for where in found} == {
        "qejax/train/_checkpoint.py",
        "qejax/zoo/files/_orbax.py",
    }


def test_rooms_import_rooms() -> None:
    """Private files are imported by their own room only."""
    found = []
    for where, name in imports(CODE):
        parts = name.split(".")
        if parts[0] != "qejax" or len(parts) < 3 or not parts[2].startswith("_"):
            continue
        # A benchmark may time a piece that is no part of the public surface.
        if not where.startswith((f"qejax/{parts[1]}/", "benchmarks/bench_")):
            found.append(f"{where} imports {name}")
    assert_none(found)


def rooms() -> list[Path]:
    return sorted((ROOT / "qejax").glob("*/__init__.py"))


def exported(room: Path) -> dict[str, str]:
    """Returns the modules of the names that a room re-exports."""
    return {
        alias.asname: node.module or ""
        for node in parsed(room).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname
    }


def listed(room: Path) -> list[str] | None:
    for node in parsed(room).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return None


@pytest.mark.parametrize("room", rooms(), ids=lambda path: path.parent.name)
def test_rooms_list_what_they_export(room: Path) -> None:
    names = listed(room)
    assert names is not None, "no __all__"
    assert sorted(names) == sorted(exported(room))


def is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def documented(module: Path) -> set[str]:
    """Returns the top-level names of a module that have a docstring."""
    names: set[str] = set()
    body = parsed(module).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            if ast.get_docstring(node):
                names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and after and is_text(after):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {ast.unparse(target) for target in targets}
    return names


def is_documented(module: str, name: str) -> bool:
    """Whether a name has a docstring, in the room that passes it on or a lower one."""
    path = ROOT / Path(*module.split("."))
    if (path / name / "__init__.py").exists():
        return ast.get_docstring(parsed(path / name / "__init__.py")) is not None
    if (path / "__init__.py").exists():
        return is_documented(exported(path / "__init__.py")[name], name)
    return name in documented(path.with_suffix(".py"))


@pytest.mark.parametrize("room", rooms(), ids=lambda path: path.parent.name)
def test_public_names_are_documented(room: Path) -> None:
    found = []
    for name, module in exported(room).items():
        if not is_documented(module, name):
            found.append(f"{module}.{name}")
    assert_none(found)


def test_every_raise_is_matched_by_a_test() -> None:
    missing = [
        f"{message.where} {' '.join(message.text.split())[:90]}"
        for message in unmatched(ROOT / "qejax", ROOT / "tests")
        if f"{message.where.split(':')[0]}: {message.text[:20]}" not in UNTESTED_RAISES
    ]
    assert_none(missing)


def test_a_raise_without_a_test_is_seen(tmp_path: Path) -> None:
    """A control: the rule above tells a matched message from an unmatched one."""
    room, tests = tmp_path / "pkg" / "room", tmp_path / "tests" / "room"
    room.mkdir(parents=True)
    tests.mkdir(parents=True)
    message = "f'the {n} green apples should be ripe, got {x}.'"
    (room / "_a.py").write_text(f"raise ValueError({message})")
    (room / "_b.py").write_text("raise ValueError('pears should be soft')")
    test = "def test_a():\n    with pytest.raises(ValueError, match={}): a()"
    (tests / "test_a.py").write_text(test.format("r'the 7 green apples should'"))
    found = unmatched(tmp_path / "pkg", tmp_path / "tests")
    assert [message.where for message in found] == ["pkg/room/_b.py:1"]


def test_every_expected_error_is_matched() -> None:
    built_in = re.compile(r"(Value|Type|Key|Index|Runtime|FloatingPoint)Error")
    assert_none(
        [
            where
            for where, called, call in calls(("tests",))
            if called == "pytest.raises"
            and built_in.search(ast.unparse(call.args[0]))
            and not any(keyword.arg == "match" for keyword in call.keywords)
        ]
    )


def committed() -> Iterator[Path]:
    listing = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    for name in listing.stdout.splitlines():
        path = ROOT / name
        if path.is_file() and path.suffix not in (".png", ".npz", ".npy"):
            yield path


def test_no_path_of_one_machine_is_committed() -> None:
    place = re.compile(r"(?<![\w.}/-])/(work|tmp|opt|root|home|Users)/\w|index-url")
    found = []
    for path in committed():
        lines = path.read_text(errors="replace").splitlines()
        found += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
            for number, line in enumerate(lines, start=1)
            if place.search(line) and path != Path(__file__)
        ]
    assert_none(found)


def test_ci_checks_the_order_of_rooms() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    for command in ("lint-imports", "ruff", "pyright"):
        assert command in script
