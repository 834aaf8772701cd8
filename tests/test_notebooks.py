"""The notebooks run from their first cell to their last, and are stored without outputs."""

import ast
import json
from pathlib import Path

import matplotlib as mpl
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))


def coarser(source: str) -> str:
    """The same with a quarter of the pixels, and two frames."""
    source = source.replace("matrix=(128, 128)", "matrix=(64, 64), spacing_mm=5.0")
    return source.replace("frames=3", "frames=2")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path, monkeypatch, capsys, tmp_path):
    """As Jupyter would: one namespace, the last expression of a cell is shown."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    names, shown = {}, []
    with mpl.rc_context({"backend": "agg"}):
        for number, cell in enumerate(cells):
            assert cell["outputs"] == []
            tree = ast.parse(coarser("".join(cell["source"])))
            last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            exec(compile(tree, f"cell {number}", "exec"), names)
            if last is not None:
                shown.append(eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names))
        names["plt"].close("all")
    if path.stem == "hidden-slices":
        assert names["at_hidden"] > names["at_given"] > 0
        assert "given 0." in capsys.readouterr().out
        assert names["given"]["LV blood pool", "ED"] > 0.7
    else:
        assert shown[0][0] == "background"
        assert {"scan.nisf", "labels.json"} & set(shown[-1]) or "phantom0000.nisf" in shown[-1]


def test_there_are_notebooks():
    assert len(NOTEBOOKS) == 2
    assert all("matrix=(128, 128)" in path.read_text() for path in NOTEBOOKS)
