"""The error tree: drawn as it is, with a code and a message for each."""

from __future__ import annotations

import inspect
import re

import pytest

from sightline import errors
from sightline.errors import SightlineError, Unavailable

CLASSES = [getattr(errors, name) for name in errors.__all__]
NUMBERS = {"limit", "found", "known"}


def raised(error: type[SightlineError]) -> SightlineError:
    """One of that class, with something for each of its facts."""
    if error.__init__ is Exception.__init__:
        return error()
    names = inspect.signature(error).parameters
    return error(*(7 if name in NUMBERS else f"<{name}>" for name in names))


def test_the_drawing_shows_every_class_under_its_parent() -> None:
    drawn: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"([ │├└─]*)([A-Z]\w+)(  .*)?$", line)
        if match and match[2] in errors.__all__:
            while above and above[-1][0] >= len(match[1]):
                above.pop()
            if above:
                drawn[match[2]] = above[-1][1]
            above.append((len(match[1]), match[2]))
    real = {error.__name__: error.__bases__[0].__name__ for error in CLASSES if error is not SightlineError}
    assert drawn == real


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_an_error_has_a_stable_code_and_says_whether_to_try_again(error: type[SightlineError]) -> None:
    assert re.fullmatch("[a-z_]+", error.code)
    assert error.retryable is issubclass(error, Unavailable)


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_an_errors_facts_are_attributes_and_its_message_has_one_line(error: type[SightlineError]) -> None:
    example = raised(error)
    if error.__init__ is not Exception.__init__:
        for name in inspect.signature(error).parameters:
            assert getattr(example, name) in example.args
        assert any(str(fact) in str(example) for fact in example.args)
    assert "\n" not in str(example)
