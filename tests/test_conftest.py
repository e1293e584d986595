"""Which cases of a law run by default."""

from typing import Any

import pytest

from tests.conftest import pytest_collection_modifyitems


class Case:
    """What the hook sees of a test."""

    def __init__(self, nodeid: str, *marks: Any) -> None:
        self.nodeid, self.marks = nodeid, [mark.mark for mark in marks]

    def get_closest_marker(self, name: str) -> Any:
        return next((mark for mark in self.marks if mark.name == name), None)

    def add_marker(self, mark: Any) -> None:
        self.marks.append(mark.mark)


def left(cases: list[Any]) -> list[str]:
    pytest_collection_modifyitems(cases)
    return [one.nodeid for one in cases if not one.get_closest_marker("slow")]


def test_of_each_law_one_case_in_n_is_left() -> None:
    third, slow = pytest.mark.one_in(3), pytest.mark.slow
    laws = [[f"a.py::test_{law}[{n}]" for n in range(9)] for law in range(20)]
    found = [left([Case(name, third) for name in law]) for law in laws]
    assert all(len(one) == 3 for one in found)
    starts = {law.index(one[0]) for law, one in zip(laws, found, strict=True)}
    assert starts == {0, 1, 2}
    # Slow ones are not counted, and there is always one.
    mixed = [Case(name, third, slow) for name in laws[0][:7]]
    assert len(left([*mixed, *(Case(name, third) for name in laws[0][7:])])) == 1
    assert all(left([Case(name, third)]) == [name] for name in laws[0])
    # Tests without the mark stay as they are.
    assert left([Case("b.py::test_it"), Case("b.py::test_slow", slow)]) == [
        "b.py::test_it"
    ]
