"""The rules of docs/design.md that a machine can hold: who imports whom, sizes, and what never appears."""

import ast
import re
from pathlib import Path

import pytest

from nisf.data.anatomy import anatomy_names, load_anatomy

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "nisf"
FILES = sorted(SOURCE.rglob("*.py"))
FACES = {"__init__", "__main__"}
"""Modules that hand the rest on."""


def allowed_imports() -> dict[str, set[str]]:
    """Package to the packages that it may import, from the table in docs/design.md, in its order."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    table = text.split("| package | holds | imports |")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {name.strip("`"): set(re.findall(r"`(\w+)`", imports)) for name, _, imports in rows}


ALLOWED = allowed_imports()


def imported_modules(path: Path) -> set[str]:
    """Modules of ours that a file imports anywhere, also inside functions: ``nisf.x.y`` gives ``x.y``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.removeprefix("nisf.") for name in names if name.startswith("nisf.")}
    return found


def home(path: Path) -> str:
    """The package or single module that a file belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def test_every_package_stands_in_the_table():
    assert set(ALLOWED) == {home(path) for path in FILES} - FACES


def test_the_table_itself_runs_downwards():
    above: set[str] = set()
    for name, imports in ALLOWED.items():
        assert imports <= above, f"{name} may import only rows above it"
        above.add(name)


@pytest.mark.parametrize("name", ALLOWED)
def test_packages_import_what_the_table_says(name):
    """No more, and no less: a row that nobody needs any more is struck out."""
    taken = {
        module.split(".")[0] for path in FILES if home(path) == name for module in imported_modules(path)
    } - {name}
    assert taken == ALLOWED[name]


def test_no_circles_of_modules():
    graph = {
        module_name(path): {
            name for name in imported_modules(path) if (SOURCE / (name.replace(".", "/") + ".py")).is_file()
        }
        for path in FILES
        if path.stem not in FACES
    }
    left = dict(graph)
    while left:
        free = [name for name, wanted in left.items() if not wanted & set(left)]
        assert free, f"these import each other: {sorted(left)}"
        for name in free:
            del left[name]


def test_a_reader_sees_few_files_first():
    assert sum(path.is_file() for path in SOURCE.iterdir()) <= 12


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_and_functions_are_small(path):
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    assert len(lines) <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
            reason = lines[node.lineno - 2].strip().startswith("# ")
            assert node.end_lineno - node.lineno < 60 or reason, f"{node.name} in {path}"


def test_no_branch_on_the_kind_of_a_field():
    """Outside the kinds themselves and the paper's experiments, which are about one kind each."""
    asked = re.compile(
        r"(?<!dtype)\.kind (==|!=|in) [\"'({]|isinstance\([^)]*(Latent|Image)(Prior|Subject|Field)"
    )
    for path in FILES:
        if path.relative_to(SOURCE).parts[:2] in (("kinds", "latent"), ("kinds", "image")):
            continue
        if home(path) not in ("paper", "phantom"):
            assert not asked.search(path.read_text(encoding="utf-8")), path


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
