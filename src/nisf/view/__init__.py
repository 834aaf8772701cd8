"""The viewer: a local web page that queries a subject's field for any plane at any time.

The package itself can be called: ``nisf.view(subject)`` shows the page in a notebook.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nisf.view.notebook import embedded as view


class _Callable(ModuleType):
    """A module that can be called like `nisf.view.notebook.embedded`."""

    def __call__(self, *arguments: object, **options: object) -> object:
        from nisf.view.notebook import embedded

        return embedded(*arguments, **options)  # ty: ignore[invalid-argument-type]


if not TYPE_CHECKING:  # type checkers see the function itself
    sys.modules[__name__].__class__ = _Callable
    view = sys.modules[__name__]
