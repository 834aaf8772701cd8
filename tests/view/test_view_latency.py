import json
from pathlib import Path

import pytest

from nisf.io.subject_file import write_subject

pytest.importorskip("starlette", reason="needs nisf[view]: starlette and uvicorn")


def test_the_benchmark_runs_on_little(toy_seen, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import view_latency

    path = tmp_path / "toy.nisf"
    write_subject(path, toy_seen[0])
    arguments = [str(path), "--planes", "4", "--pixels", "24", "-o", str(tmp_path / "latency.json")]
    assert view_latency.main(arguments) == 0
    result = json.loads((tmp_path / "latency.json").read_text())
    assert result == json.loads(capsys.readouterr().out)
    for when in ("at measured times", "between them"):
        assert 0 < result[when]["coarse"]["p50"] <= result[when]["sharp"]["p95"]
