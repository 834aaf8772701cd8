"""Placeholders for packages that a borrowed machine lacks; import this before nisf.

Only benchmarks that neither read nor write the formats of these packages can do without them. Where the
packages are installed, this does nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

PACKAGES = ("nibabel", "pydicom", "highdicom", "tyro")


class _Placeholder(ModuleType):
    """A module in which any name is an empty class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Exception,), {})


class _Finder(MetaPathFinder, Loader):
    """Finds a placeholder for every module of the given packages."""

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = frozenset(packages)

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.split(".")[0] in self.packages else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Placeholder(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: a placeholder has no code."""


MISSING = [name for name in PACKAGES if find_spec(name) is None]
if MISSING:
    sys.meta_path.append(_Finder(MISSING))
