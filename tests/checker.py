"""The run-time checker of every signature in the tests.

The first calls of each function in each test are checked, and then one of many: a training step that is
repeated a thousand times is checked often enough, and checking every call takes as long as the steps. What
checks a function is built when it is first called, since building it takes milliseconds.
"""

import dataclasses
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

FIRST = 2
"""Calls of a function that are checked in each test."""
EVERY = 64
"""Of its further calls, one of so many."""

# As in the typing rules, an int is fine where a float is asked for.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
_whole = jaxtyping.jaxtyped


@dataclasses.dataclass(slots=True)
class Calls:
    """How often a function was called in a test; those made anew by each call of another count together."""

    test: int = 0
    number: int = 0


_calls: dict[CodeType, Calls] = {}
_nested: dict[CodeType, Callable[..., Any]] = {}
_running = threading.local()
"""The functions within functions that each thread is in, while they are checked."""
_test = 0


def begin_test() -> None:
    """From now on the first calls of every function are checked again."""
    global _test
    _test += 1


def sampled(function: Any = None, *, typechecker: Any) -> Any:
    """In the place of `jaxtyping.jaxtyped`: the same checks, but not of every call."""
    if function is None:
        return functools.partial(sampled, typechecker=typechecker)
    if inspect.isclass(function):
        first = function.__dict__.get("__init__")
        if dataclasses.is_dataclass(function) and first is not None and not hasattr(first, "checked"):
            function.__init__ = _of_function(first, typechecker)
        return function
    if isinstance(function, classmethod | staticmethod):
        return type(function)(sampled(function.__func__, typechecker=typechecker))
    if isinstance(function, property):
        parts = (function.fget, function.fset, function.fdel)
        return property(*(part and _of_function(part, typechecker) for part in parts))
    return _of_function(function, typechecker)


def _of_function(function: Callable[..., Any], typechecker: Any) -> Callable[..., Any]:
    # Looked up here and not in each call: to hash code takes longer than most functions.
    calls = _calls.setdefault(inspect.unwrap(function).__code__, Calls())
    nested = "<locals>" in function.__qualname__
    built: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if calls.test != _test:
            calls.test, calls.number = _test, 0
        calls.number = number = calls.number + 1
        if number > FIRST and number % EVERY:
            return function(*args, **kwargs)
        if not built:
            build = _of_nested if nested else _whole
            built.append(build(function, typechecker=typechecker))
        return built[0](*args, **kwargs)

    checked.checked = True
    return checked


def _of_nested(function: Callable[..., Any], *, typechecker: Any) -> Callable[..., Any]:
    """What checks a function within a function: built once, not whenever the outer one is called."""
    code = inspect.unwrap(function).__code__
    if code not in _nested:

        @functools.wraps(function)
        def innermost(*args: Any, **kwargs: Any) -> Any:
            return _running.functions[-1](*args, **kwargs)

        _nested[code] = _whole(innermost, typechecker=typechecker)
    whole = _nested[code]

    def checked(*args: Any, **kwargs: Any) -> Any:
        functions = _running.__dict__.setdefault("functions", [])
        functions.append(function)
        try:
            return whole(*args, **kwargs)
        finally:
            functions.pop()

    return checked


def install() -> None:
    """Check what is imported of nisf from now on."""
    jaxtyping.jaxtyped = sampled
    jaxtyping.install_import_hook("nisf", "checker.check")


@contextmanager
def unchecked() -> Iterator[None]:
    """As users run it: what a wrong argument meets is our own test of it, not the checker."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
