import subprocess
import sys

import pytest

from nisf.cli import main
from nisf.config.tables import sections


def printed(capsys, *words):
    assert main(["settings", *words]) == 0
    return capsys.readouterr().out


def rows(text):
    """Lines of values, as words."""
    return {
        line.split()[0]: line.split()[1:]
        for line in text.splitlines()
        if line[:3].strip() and line[:2] == "  "
    }


def test_all_settings(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = printed(capsys)
    found = rows(text)
    for section in sections():
        for setting in section.settings:
            assert setting.name in found
    assert found["train.optimiser"] == ["adam", "adam", "muon", "adam"]
    assert found["field.width"] == ["128", "128", "-", "64"]
    assert found["image.slice_exchange"] == ["3"]
    assert "a fitted vector (the paper)" in text
    assert "does not apply" in text.splitlines()[-1]
    assert max(map(len, text.splitlines())) <= 100


def test_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, printed(capsys, "image").splitlines())) <= 60


def test_one_section(capsys):
    assert {name.partition(".")[0] for name in rows(printed(capsys, "region"))} == {"region"}


def test_one_preset(capsys):
    text = printed(capsys, "--preset", "image")
    found = rows(text)
    assert found["train.optimiser"] == ["muon"]
    assert found["image.slice_exchange"] == ["3"]
    assert "field.width" not in found
    assert "augment.noise" not in rows(printed(capsys, "--preset", "cpu"))
    assert printed(capsys, "augment", "--preset", "cpu").count("\n") == 1


def test_markdown(capsys):
    lines = printed(capsys, "train", "--markdown").splitlines()
    assert lines[0] == "### `train`"
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == "| setting | what | `paper` | `cpu` | `image` | `demo` |"
    assert {line.count("|") for line in table} == {7}
    precision = next(line for line in table if line.startswith("| `train.precision` |"))
    assert precision.endswith(" |  |  | auto |  |")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["trian"],
            "trian: no such section of settings; there are field, image, augment, train, fit, region",
        ),
        (["--preset", "fast"], "fast: no such preset; there are cpu,"),
    ],
)
def test_bad_names(capsys, words, message):
    assert main(["settings", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_light():
    code = "import sys, nisf.cli; nisf.cli.main(['settings']); "
    code += "print(sorted({'torch', 'numpy', 'nibabel', 'matplotlib'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


def test_help_of_train_points_here(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "nisf settings" in " ".join(capsys.readouterr().out.replace("│", " ").split())
