"""The README is true: its Python runs and prints what it says; its commands exist."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def fenced(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_python_blocks_print_what_the_readme_says():
    blocks = fenced("python")
    assert blocks, "README.md has no Python example"
    for block in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
        expected = re.findall(r"#> (.*)", block)
        assert printed.getvalue().splitlines() == expected


def test_commands_name_modules_that_exist():
    modules = re.findall(r"python -m ([\w.]+)", "\n".join(fenced("bash")))
    assert modules, "README.md has no command"
    for module in modules:
        if module in ("venv", "pip", "pytest"):
            continue
        path = ROOT / Path(*module.split("."))
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), (
            module
        )


@pytest.mark.parametrize("marker", ["main job", "tests"])
def test_the_two_commands_are_marked_and_parse(marker):
    command = re.search(rf"<!-- {marker} -->\s*```bash\n(.*?)```", README, re.DOTALL)
    assert command is not None
    assert shlex.split(command.group(1))


def test_pictures_exist():
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (ROOT / picture).exists(), picture
