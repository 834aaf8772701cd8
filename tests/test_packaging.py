"""What a wheel holds, and what its metadata says of the licences in it."""

import email.message
import email.parser
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nisf.cli import main
from nisf.prior.bundled import FOLDER, model_names

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
NOTICES = {"LICENSE"} | {(FOLDER / name / "LICENSE").relative_to(ROOT).as_posix() for name in model_names()}
CREATIVE_COMMONS = {
    "CC-BY-NC-SA-4.0": (
        "Creative Commons Attribution-NonCommercial-ShareAlike 4.0 International",
        "https://creativecommons.org/licenses/by-nc-sa/4.0/",
    ),
    "CC-BY-SA-4.0": (
        "Creative Commons Attribution-ShareAlike 4.0 International",
        "https://creativecommons.org/licenses/by-sa/4.0/",
    ),
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


def metadata(wheel: zipfile.ZipFile) -> email.message.Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.parser.Parser().parsestr(wheel.read(name).decode())


def spdx(name: str) -> str:
    """The licence that a model's notice names."""
    found = re.search(
        r"^SPDX-License-Identifier: (\S+)$", (FOLDER / name / "LICENSE").read_text(), re.MULTILINE
    )
    assert found, name
    return found[1]


def test_the_wheel_has_every_file_of_the_package(wheel):
    held = {name for name in wheel.namelist() if name.startswith("nisf/")}
    files = {path.relative_to(SOURCE) for path in (SOURCE / "nisf").rglob("*") if path.is_file()}
    built = {"nisf/outputs/commit.txt"} if (ROOT / ".git").exists() else set()
    assert held == {path.as_posix() for path in files if "__pycache__" not in path.parts} | built
    if built:
        assert re.fullmatch(r"\w{7,}(-dirty)?\n", wheel.read("nisf/outputs/commit.txt").decode())
    for name in model_names():
        for file in ("weights.safetensors", "prior.json", "README.md", "LICENSE"):
            assert f"nisf/prior/bundled/{name}/{file}" in held
    assert {"nisf/data/anatomies/cardiac-sax.json", "nisf/data/anatomies/hippocampus.json"} <= held
    assert "nisf/py.typed" in held


def test_metadata_names_every_licence(wheel):
    read = metadata(wheel)
    assert set(read["License-Expression"].split(" AND ")) == {"Apache-2.0", *map(spdx, model_names())}
    assert set(read.get_all("License-File", [])) == NOTICES
    for notice in NOTICES:
        inside = f"nisf-{read['Version']}.dist-info/licenses/{notice}"
        assert wheel.read(inside) == (ROOT / notice).read_bytes()


@pytest.mark.parametrize("name", model_names())
def test_notice_card_and_list_of_models_agree(name, capsys):
    identifier = spdx(name)
    full_name, address = CREATIVE_COMMONS[identifier]
    notice = (FOLDER / name / "LICENSE").read_text().splitlines()
    assert {full_name, address} <= set(notice)
    assert notice[0] == f"Licence of the model {name}"
    short = f"CC {identifier.removeprefix('CC-').removesuffix('-4.0')} 4.0"
    card = (FOLDER / name / "README.md").read_text()
    assert f"**{short}**" in card.splitlines()[2]
    assert f"[{short}]({address}) (SPDX `{identifier}`)" in card
    assert main(["models"]) == 0
    _, _, listed = capsys.readouterr().out.partition(f"{name}: ")
    assert short in listed.splitlines()[1]


def test_readme_names_each_models_licence():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    _, _, paragraph = text.partition("\n## Licence\n")
    for name in model_names():
        _, _, after = paragraph.partition(f"`{name}`")
        named = re.search(r"CC (BY\S+) 4\.0", after)
        assert named, name
        assert f"CC-{named[1]}-4.0" == spdx(name)
