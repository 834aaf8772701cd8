"""The rules of docs/design.md that a machine can hold: who imports whom, and what never appears."""

import ast
import re
from pathlib import Path

import pytest

from nisf.data.anatomy import anatomy_names, load_anatomy

SOURCE = Path(__file__).parents[1] / "src" / "nisf"
LEAVES = {
    "cli",
    "demo",
    "evaluate",
    "paper",
    "phantom",
    "picture",
    "readers",
    "score",
    "segmentation",
    "writers",
}
ABOVE_NOTHING = {"errors", "types", "geometry"}
FILES = sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports anywhere, also inside functions: ``nisf.x.y`` gives ``x``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("nisf.")}
    return found


def home(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_the_core_never_imports_a_leaf(path):
    if home(path) not in LEAVES | {"__init__", "__main__"}:
        assert not imports(path) & LEAVES
    if home(path) in ABOVE_NOTHING:
        assert imports(path) <= ABOVE_NOTHING


def test_no_circles():
    graph: dict[str, set[str]] = {}
    for path in FILES:
        if home(path) not in ("__init__", "__main__"):
            graph.setdefault(home(path), set()).update(imports(path) - {home(path)})
    left = dict(graph)
    while left:
        free = [name for name, wanted in left.items() if not wanted & set(left)]
        assert free, f"these import each other: {sorted(left)}"
        for name in free:
            del left[name]


def test_no_pickle_and_no_evaluated_text():
    forbidden = re.compile(r"import pickle|torch\.(load|save)\(|allow_pickle=True|(?<![\w.])(eval|exec)\(")
    for path in FILES:
        assert not forbidden.search(path.read_text(encoding="utf-8")), path


def test_an_organ_is_named_in_data_only():
    structures = {name for anatomy in anatomy_names() for name in load_anatomy(anatomy).labels[1:]}
    for path in FILES:
        if home(path) == "phantom":
            continue  # the phantom is a heart
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        named = structures & {node.value for node in nodes if isinstance(node, ast.Constant)}
        assert not named, f"{path} names {named}"
