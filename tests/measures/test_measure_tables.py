import json
from dataclasses import replace

import numpy as np
import pytest

from measured_folder import add, read
from nisf.errors import BadFileError
from nisf.measures.case import CaseMeasures
from nisf.measures.curve import VolumeCurve
from nisf.measures.folder import Tables
from nisf.measures.table import (
    case_path,
    from_json,
    read_case,
    rows_of,
    to_json,
    write_case,
    write_parquet,
    write_tables,
)
from nisf.measures.wall import Wall

TIMES = np.array([0.0, 0.4])
CURVE = VolumeCurve(TIMES, {"LV": np.array([120.0, 50.0])}, {"LV": np.array([118.0, 52.0])}, 800.0)
NAMES = tuple(f"segment {k}" for k in range(1, 18))
WALL = Wall({"ED": np.full(17, 8.0), "ES": np.append(np.full(16, 12.0), np.nan)}, "ED", "ES", NAMES)


def measures(name="a", **options):
    values = {"lv_edv_ml": 120.123456, "lv_ef_percent": 58.3, "co_l_per_min": None}
    return CaseMeasures(
        name, values, phases={"ED": 0.0, "ES": 0.4}, curve=CURVE, wall=WALL, notes=("so, and so",), **options
    )


def test_a_case_there_and_back(tmp_path):
    before = measures(
        intervals={"lv_edv_ml": (110.0, 130.0)}, quality="amber", predicted_dice=0.85, reasons=("thin",)
    )
    path = write_case(tmp_path, before)
    assert path == case_path(tmp_path, "a") == tmp_path / "a.measures.json"
    after = read_case(path)
    assert to_json(after) == to_json(before)
    assert after.values["lv_edv_ml"] == pytest.approx(before.values["lv_edv_ml"])
    assert np.isnan(after.wall.thickness_mm["ES"][16])


def test_the_tables(tmp_path):
    with Tables(tmp_path) as tables:
        add(tables, measures("b"))
        add(tables, measures("a", intervals={"lv_edv_ml": (110.0, 130.0)}))
    rows = read(tmp_path / "measures.csv")
    assert [row["case"] for row in rows] == ["a", "b"]
    assert list(rows[0])[:6] == [
        "case",
        "lv_edv_ml",
        "lv_edv_ml_low",
        "lv_edv_ml_high",
        "lv_ef_percent",
        "co_l_per_min",
    ]
    assert list(rows[0])[-4:] == ["quality", "predicted_dice", "reasons", "notes"]
    assert (rows[0]["lv_edv_ml_low"], rows[1]["lv_edv_ml_low"]) == ("110", "")
    assert rows[0]["co_l_per_min"] == ""
    assert rows[0]["notes"] == "so, and so"
    everything = json.loads((tmp_path / "measures.json").read_text())
    assert [case["case"] for case in everything["cases"]] == ["a", "b"]
    assert set(everything["conventions"]) == {"field", "slices"}


def test_curves_and_walls(tmp_path):
    write_tables(tmp_path, [replace(measures(), band_ml={"LV": np.array([8.0, 60.0])})])
    curves = read(tmp_path / "curves.csv")
    assert curves[1] == {
        "case": "a",
        "time": "0.4000",
        "time_ms": "320.0",
        "structure": "LV",
        "volume_ml": "50.000",
        "volume_slices_ml": "52.000",
        "volume_low_ml": "0.000",
        "volume_high_ml": "110.000",
    }
    walls = read(tmp_path / "wall.csv")
    assert len(walls) == 34
    first, last = walls[0], walls[-1]
    assert (first["phase"], first["thickness_mm"], first["thickening_percent"]) == ("ED", "8", "")
    assert (last["segment"], last["name"], last["thickness_mm"]) == ("17", "segment 17", "")
    assert walls[17]["thickening_percent"] == "50"


def test_no_wall_no_table(tmp_path):
    write_tables(tmp_path, [replace(measures(), wall=None, curve=None)])
    assert {path.name for path in tmp_path.iterdir()} == {"measures.csv", "measures.json", "curves.csv"}


def test_cases_with_other_measures_share_a_table():
    columns, rows = rows_of([measures("a"), CaseMeasures("b", {"lv_edv_ml": 1.0, "more_ml": 2.0})])
    assert columns[:5] == ["case", "lv_edv_ml", "lv_ef_percent", "co_l_per_min", "more_ml"]
    assert rows[1].get("lv_ef_percent") is None


@pytest.mark.parametrize("text", ["[]", '{"format": 9}', '{"format": 1, "case": "a"}'])
def test_a_damaged_file_is_named(tmp_path, text):
    path = case_path(tmp_path, "a")
    path.write_text(text)
    with pytest.raises(BadFileError, match=r"a\.measures\.json"):
        read_case(path)


def test_not_json(tmp_path):
    path = case_path(tmp_path, "a")
    path.write_text("{")
    with pytest.raises(BadFileError, match="cannot be read as JSON"):
        read_case(path)


def test_numbers_that_are_not_finite_are_unknown():
    data = to_json(CaseMeasures("a", {"x_ml": float("nan")}))
    assert data["values"]["x_ml"] is None
    assert from_json(json.loads(json.dumps(data))).values["x_ml"] is None


def test_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_tables(tmp_path, [measures("a"), measures("b")], parquet=True)
    found = parquet.read_table(tmp_path / "measures.parquet").to_pydict()
    assert found["case"] == ["a", "b"]
    assert found["lv_edv_ml"] == pytest.approx([120.123456] * 2)
    assert found["co_l_per_min"] == [None, None]


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(BadFileError, match="needs pyarrow"):
        write_parquet(tmp_path / "measures.parquet", ["case"], [{"case": "a"}])
