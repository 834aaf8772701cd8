"""Every command and snippet that the documentation shows is run, on small phantoms and with few steps.

And what it names is there: modules, files, settings, every public name.
"""

import functools
import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import nisf
from nisf.cli import main, parsed
from nisf.config.presets import PRESETS
from nisf.config.tables import sections
from nisf.data.anatomy import load_anatomy
from nisf.io.readers import open_cohort, read_case
from nisf.paper.budget import BUDGETS
from nisf.phantom import Scanner, write_cohort
from nisf.prior.bundled import FOLDER
from tiny_budget import TINY

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(FOLDER.glob("*/README.md")),
]
every_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: f"{path.parent.name}/{path.name}"
)
pytestmark = pytest.mark.usefixtures("light")
FEW = {"thickness_mm": 24.0, "gap_mm": 5.0, "frames": 2}
"""Slices and frames of the phantoms: what a command takes is mostly a multiple of their number."""
SMALL = Scanner(matrix=(32, 32), spacing_mm=5.6, **FEW)


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def commands(path: Path) -> list[str]:
    lines = [line.split("#")[0].strip() for block in blocks(path, "sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith("nisf ")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs") / "data"
    write_cohort(folder, 6, seed=5, scanner=SMALL)
    return folder


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A phantom with enough of the chest around its heart for the default model's finder."""
    folder = tmp_path_factory.mktemp("docs") / "scan"
    write_cohort(folder, 1, seed=5, scanner=Scanner(matrix=(64, 64), spacing_mm=5.0, **FEW))
    return folder / "phantom0000" / "sa.nii.gz"


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """A phantom with long-axis cines."""
    folder = tmp_path_factory.mktemp("docs") / "views"
    write_cohort(
        folder, 1, seed=5, scanner=Scanner(matrix=(64, 64), spacing_mm=3.6, **FEW), views=("2ch", "4ch")
    )
    return folder


@pytest.fixture
def here(data, scan, views, tmp_path, monkeypatch):
    """A folder with what the documents speak of, and presets that take seconds."""
    for name in ("data", "DATA"):
        (tmp_path / name).symlink_to(data)
    (tmp_path / "scan.nii.gz").symlink_to(scan)
    (tmp_path / "views").symlink_to(views)
    (tmp_path / "names.txt").write_text("phantom0001\nphantom0004\n")
    (tmp_path / "bodies.csv").write_text("case,height_cm,weight_kg\nphantom0001,180,80\n")
    (tmp_path / "points.csv").write_text("x,y,z,t\n0,0,0,0.1\n5,-5,10,0.4\n")
    monkeypatch.chdir(tmp_path)
    tiny = {"latent": 16, "width": 16, "layers": 2, "activation": "sine", "coordinate_scale": 6.0}
    for name, preset in PRESETS.items():
        small = replace(
            preset,
            field=replace(preset.field, **tiny),
            train=replace(preset.train, steps=4, subjects=2, points=64, compile=False, checkpoint_every=2),
            fit=replace(
                preset.fit, steps=4, points=64, iterations=3, growth=2, points_first=64, points_last=128
            ),
            region=replace(preset.region, finder_steps=3),
            image=replace(preset.image, pixels=32, pixel_mm=5.0, width=8, levels=3, features=4, hidden=8),
            augment=replace(preset.augment, coarse_pixels=16),
        )
        monkeypatch.setitem(PRESETS, name, small)
    for name in BUDGETS:
        monkeypatch.setitem(BUDGETS, name, TINY)
    return tmp_path


def pieces(path: Path) -> list[tuple[str, str, str]]:
    """Language, text and name of each fenced block, in order; "Save this as `NAME`:" names one."""
    text = path.read_text(encoding="utf-8")
    found = re.finditer(
        r"(?:Save this as `([^`]+)`:\n\n)?^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE
    )
    return [(match[2], match[3], match[1] or "") for match in found]


def lines(text: str) -> list[str]:
    """The commands of a block, without comments; a line that ends with a backslash goes on."""
    joined = text.replace("\\\n", " ")
    return [line.split(" #")[0].strip() for line in joined.splitlines()]


def lighter(command: str) -> str:
    """The same command with fewer steps, coarser grids, fewer frames and draws."""
    command = re.sub(r"train\.steps=\d+", "train.steps=4", command)
    command = re.sub(r"--(frames|samples) \d\d+", r"--\1 2", command)
    spacing = re.search(r"--spacing (\S+)", command)
    if spacing is None:
        return command
    numbers = [float(number) for number in spacing[1].split(",")]
    times = 4 if len(numbers) > 1 else 2
    return command.replace(spacing[0], f"--spacing {','.join(str(times * number) for number in numbers)}")


PREPARED = {"cluster", "training-at-scale", "correcting"}
"""Pages whose commands need something first; each has a test of its own."""
RUN = [
    path
    for path in DOCUMENTS
    if path.parent in (ROOT, ROOT / "docs") and path.stem not in PREPARED and commands(path)
]


@pytest.mark.parametrize("document", RUN, ids=lambda path: path.stem)
def test_commands_and_snippets(document, here, capsys):
    """In the order in which a reader meets them."""
    names: dict[str, object] = {}
    for language, text, name in pieces(document):
        if name:
            (here / name).write_text(text)
        if language == "python":
            exec(text, names)
        for command in lines(text) if language == "sh" else ():
            if not command.startswith("nisf ") or command.startswith("nisf phantom"):
                continue  # the phantoms are the fixture's; tests/test_cli.py makes others
            status = main(shlex.split(lighter(command))[1:])
            printed = capsys.readouterr()
            assert status == 0, f"{command}\n{printed.out}\n{printed.err}"


def test_pages_with_commands_are_found():
    assert {"README", "howto", "paper", "tutorial-first", "tutorial-anatomy"} <= {path.stem for path in RUN}


@every_document
def test_commands_that_need_more_can_be_parsed(document):
    """Those in blocks that are not run: on real data, or for hours."""
    for language, text, _ in pieces(document):
        for command in lines(text) if not language else ():
            if command.startswith("nisf "):
                words = command.replace("EXPERIMENT", "table1").replace("NAME", "cardiac-sax")
                parsed(shlex.split(words)[1:])


@every_document
def test_python_blocks_compile(document):
    for text in blocks(document, "python"):
        compile(text, str(document), "exec")


@pytest.mark.usefixtures("here")
def test_commands_of_cohorts(capsys):
    """With workers, shards and, where it is installed, Ray."""
    assert main(["train", "data", "-o", "prior", "--set", "train.steps=4"]) == 0
    capsys.readouterr()
    found = commands(ROOT / "docs/cluster.md")
    assert len(found) == 5
    for command in found:
        if "--engine ray" in command:
            if find_spec("ray") is None:
                continue
            command = command.replace("--workers 2", "--workers 1")  # each takes seconds to start
        status = main(shlex.split(command)[1:])
        printed = capsys.readouterr()
        assert status == 0, f"{command}\n{printed.out}\n{printed.err}"


@pytest.mark.usefixtures("here")
def test_commands_of_training_at_scale(capsys):
    """What torchrun would start is run alone; `tests/optimisation/test_ranks.py` starts several ranks."""
    page = ROOT / "docs/training-at-scale.md"
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    launched = [line.split(" -m ")[1] for line in lines if line.startswith("torchrun ")]
    assert len(launched) == 2
    found = [*launched, *commands(page)]
    assert len(found) == 6
    for command in found:
        alone = command.replace("--device cuda", "--device cpu").replace("DATA -o prior", "DATA -o alone")
        alone = alone.replace("alone", f"alone{found.index(command)}")
        status = main(shlex.split(alone)[1:])
        printed = capsys.readouterr()
        assert status == 0, f"{command}\n{printed.out}\n{printed.err}"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_script_for_slurm(here):
    """What it asks of nisf is what the array's variables say."""
    pretended = here / "nisf"
    pretended.write_text('#!/bin/sh\necho "$@"\n')
    pretended.chmod(0o755)
    variables = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_CPUS_PER_TASK": "2", "DATA": "my data", "OUT": "out"}
    done = subprocess.run(
        ["bash", str(ROOT / "docs" / "slurm.sh")],
        env={**os.environ, **variables, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    expected = "segment my data -o out --prior cardiac-sax --shard 3/16 --workers 2"
    assert done.stdout.strip() == expected


def test_commands_and_snippets_of_correcting(here, capsys):
    page, found = ROOT / "docs/correcting.md", None
    for command in commands(page):
        if "correct" in command and found is None:
            # Where the phantom's heart is, the page cannot know.
            found = nisf.read_subject("OUT/scan.nisf")
            file = json.loads(blocks(page, "json")[0])
            place = [round(float(x), 3) for x in found.region.centre()]
            file["strokes"][0]["points_mm"] = [place, [place[0] + 6.0, *place[1:]]]
            (here / "strokes.json").write_text(json.dumps(file))
        assert main(shlex.split(command)[1:]) == 0, f"{command}\n{capsys.readouterr()}"
    names: dict[str, Any] = {}
    exec(blocks(page, "python")[0], names)
    both = [nisf.read_subject(f"{out}/scan.nisf") for out in ("OUT", "OUT2")]
    assert len(both[0].strokes) == 1
    assert both[0].strokes == both[1].strokes == names["corrected"].strokes
    assert (both[0].render().label == both[1].render().label).all()
    assert (names["first"].render().label == found.render().label).all()


def test_anatomy_of_the_how_to(here):
    (here / "my.json").write_text(blocks(ROOT / "docs/howto.md", "json")[0])
    assert load_anatomy(here / "my.json").labels == ("background", "anterior", "posterior")


def test_manifest_of_the_how_to(here):
    for kind, file in (("images", "sa.nii.gz"), ("labels", "seg_sa.nii.gz")):
        (here / kind).mkdir()
        (here / kind / "anna.nii.gz").symlink_to(here / "data" / "phantom0003" / file)
    (here / "manifest.csv").write_text(blocks(ROOT / "docs/howto.md", "csv")[0])
    (here / "labels.json").write_text(blocks(ROOT / "docs/howto.md", "json")[1])
    assert main(["check", "manifest.csv"]) == 0
    cohort = open_cohort(here / "manifest.csv", load_anatomy("cardiac-sax"))
    assert [case.name for case in cohort.cases] == ["anna"]
    assert read_case(cohort.cases[0], load_anatomy("cardiac-sax")).labelled()


def headings(path: Path) -> set[str]:
    """Its headings as links name them."""
    found = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@every_document
def test_links_lead_somewhere(document):
    for link in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        target, _, anchor = link.partition("#")
        path = document.parent / target if target else document
        assert path.exists(), link
        assert not anchor or anchor in headings(path), link


def is_there(name: str) -> bool:
    """Whether a dotted name is a module of ours, or something in one."""
    module, rest = name, ""
    while True:
        try:
            found = import_module(module)
        except ModuleNotFoundError:
            module, _, last = module.rpartition(".")
            rest = f"{last}.{rest}".strip(".")
        else:
            break
    for attribute in filter(None, rest.split(".")):
        if not hasattr(found, attribute):
            return False
        found = getattr(found, attribute)
    return True


def test_what_is_there_is_told_from_what_is_not():
    assert is_there("nisf.data.geometry.Affine.inverse")
    assert not is_there("nisf.data.nothing")
    assert not is_there("nisf.fitted.Fitted")


@every_document
def test_modules_and_files_that_are_named_exist(document):
    text = document.read_text(encoding="utf-8")
    for name in re.findall(r"(?<![\w/.])nisf(?:\.[A-Za-z_]\w*)+", text):
        assert is_there(name), name
    for path in re.findall(r"(?<![\w/.])(?:src|docs|tests|benchmarks)/[\w/.-]*\w", text):
        assert (ROOT / path).exists(), path
    folders = ("benchmarks", "tools", "docs/site", ".")
    scripts = {path.name for folder in folders for path in (ROOT / folder).glob("*.py")}
    for script in re.findall(r"(?<![\w/])\w+\.py\b", text):
        assert script in scripts, script


@functools.cache
def settings() -> tuple[set[str], str]:
    """Names of all settings, and a pattern of their sections."""
    found = sections()
    names = {setting.name for section in found for setting in section.settings}
    return names, "|".join(section.name for section in found)


@every_document
def test_settings_that_are_named_exist(document):
    names, parts = settings()
    text = re.sub(r"```python\n.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    for name in re.findall(rf"(?<![\w/.-])(?:{parts})\.[a-z]\w*", text):
        assert name in names, name


@every_document
def test_decimals_have_their_zero(document):
    assert re.findall(r"(?<![\w.])\.\d+", document.read_text(encoding="utf-8")) == []


def test_every_public_name_stands_in_the_reference_once():
    part = (ROOT / "docs/reference.md").read_text(encoding="utf-8").split("\n## Python\n")[1]
    cells = re.findall(r"^\| (`.*?) \| (.+) \|$", part, re.MULTILINE)
    assert all(what.strip() for _, what in cells)
    assert sorted(name for cell, _ in cells for name in re.findall(r"`(\w+)`", cell)) == sorted(nisf.__all__)
