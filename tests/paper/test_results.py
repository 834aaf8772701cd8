import csv
import re

import numpy as np
import pytest

from nisf.paper.methods import mean_of, of_subjects
from nisf.paper.results import METHODS, Result, draw, look, publish, write_summary


def test_every_method_looks_different():
    looks = [tuple(look(name).values()) for name in METHODS]
    assert len(set(looks)) == len(METHODS)


def test_files_and_page(tmp_path):
    rows = [{"a": 1}, {"a": 2, "b": "x"}]
    figure = draw(3, 2, lambda figure: figure.subplots().plot([0, 1], [0, 1]))
    publish(tmp_path, Result("one", "A <title>", "a & b", rows, [["h"], ["1"]]), figure)
    publish(tmp_path, Result("two", "Second", "line", []), None)
    with (tmp_path / "one.csv").open() as file:
        assert list(csv.DictReader(file)) == [{"a": "1", "b": ""}, {"a": "2", "b": "x"}]
    assert (tmp_path / "one.pdf").read_bytes()[:4] == b"%PDF"
    assert (tmp_path / "one.png").read_bytes()[:4] == b"\x89PNG"
    page = write_summary(tmp_path, ["two", "missing", "one"]).read_text()
    assert page.index("Second") < page.index("A &lt;title&gt;")
    assert "a &amp; b" in page
    assert "<td>1</td>" in page
    for name in re.findall(r'(?:href|src)="([^"]+)"', page):
        assert (tmp_path / name).is_file(), name


def test_mean_of_subjects():
    rows = [
        {"case": "a", "label": "x", "dice": 1.0},
        {"case": "a", "label": "y", "dice": 0.5},
        {"case": "b", "label": "x", "dice": 0.2},
    ]
    assert of_subjects(rows).tolist() == pytest.approx([0.75, 0.2])
    assert of_subjects(rows, "y").tolist() == [0.5]
    assert mean_of(rows) == pytest.approx(0.475)
    assert np.isnan(mean_of([]))
