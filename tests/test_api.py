"""The public names: lazy to import, seen by type checkers, short to print."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import nisf
import toys
from nisf.prior.fit import fit

SOURCE = Path(nisf.__file__)


def seen_by_type_checkers() -> dict[str, str]:
    """Name to module, from the imports under ``TYPE_CHECKING``."""
    found = {}
    for node in ast.parse(SOURCE.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name):
            for line in node.body:
                assert isinstance(line, ast.ImportFrom)
                assert all(name.asname == name.name for name in line.names), "a name without 'as' is private"
                found |= {name.name: line.module for name in line.names}
    return found


def test_type_checkers_and_programs_see_the_same_names():
    assert seen_by_type_checkers() == nisf._HOME_OF
    assert set(nisf.__all__) == {"__version__", *nisf._HOME_OF} == set(dir(nisf))


@pytest.mark.parametrize("name", sorted(nisf._HOME_OF))
def test_every_name_is_there_and_says_what_it_is(name):
    value = getattr(nisf, name)
    assert value is getattr(import_module(nisf._HOME_OF[name]), name)
    assert name == "UNKNOWN" or value.__doc__


def test_no_other_name():
    with pytest.raises(AttributeError, match="module 'nisf' has no attribute 'segmint'"):
        nisf.segmint  # noqa: B018


def test_import_costs_nothing():
    code = (
        "import sys, nisf; "
        "print(sorted({'numpy', 'torch', 'nibabel', 'scipy', 'rich', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


RIGHT = """
from pathlib import Path
import nisf
subject: nisf.Subject = nisf.segment(Path("scan.nii.gz"), request=nisf.Request(frames=10))
image, probability = subject.query(subject.region.centre()[None], 0.25)
files: list[Path] = nisf.write_segmentation(subject, "out")
prior: nisf.Prior[nisf.Subject] = nisf.load_prior("cardiac-sax")
anatomy: nisf.Anatomy = prior.anatomy
case: nisf.Case = nisf.read_image("scan.nii.gz", anatomy)
fitted: nisf.Subject = nisf.segment_case(case, prior)
rendering: nisf.Rendering = fitted.render(probabilities=True)
config: nisf.Config = nisf.preset("image")
options = nisf.TrainOptions(resume=True)
trained: nisf.Prior[nisf.Subject] = nisf.train([case], [], anatomy, config, "out", options)
scores: list[nisf.Score] = nisf.score_prior(case, prior, "every-2nd-slice")
"""

WRONG = {
    "nisf.segment(3)": "invalid-argument-type",
    'nisf.segment("a.nii.gz", frames=10)': "unknown-argument",
    'nisf.segmint("a.nii.gz")': "missing-attribute",
    'nisf.Request(spacing="fine")': "invalid-argument-type",
    'nisf.FitOptions(method="magic")': "invalid-argument-type",
    'nisf.segment("a.nii.gz").volume': "missing-attribute",
    'nisf.load_prior(["cardiac-sax"])': "invalid-argument-type",
    'nisf.TrainConfig(optimiser="sgd")': "invalid-argument-type",
    'nisf.write_segmentation("a.nii.gz", "out")': "invalid-argument-type",
}


def type_errors(path: Path, text: str) -> list[tuple[int, str]]:
    """Line and rule of every error that the type checker finds in a program."""
    if find_spec("ty") is None:
        pytest.skip("needs the type checker ty")
    path.write_text(text)
    command = ["ty", "check", "--output-format", "concise", "--python", sys.prefix, str(path)]
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False, cwd=path.parent
    )
    found = re.findall(r"snippet\.py:(\d+):\d+: error\[([\w-]+)\]", done.stdout)
    assert found or "All checks passed" in done.stdout, done.stdout + done.stderr
    return [(int(line), rule) for line, rule in found]


def test_a_type_checker_accepts_what_is_right(tmp_path):
    assert type_errors(tmp_path / "snippet.py", RIGHT) == []


def test_a_type_checker_finds_nonsense(tmp_path):
    text = "import nisf\n" + "\n".join(WRONG)
    expected = [(line, rule) for line, rule in enumerate(WRONG.values(), start=2)]
    assert type_errors(tmp_path / "snippet.py", text) == expected


def test_priors_subjects_and_renderings_show_themselves_in_a_line(toy_prior, toy_image_prior):
    assert repr(toy_prior).startswith(f"<LatentPrior {toy_prior.fingerprint} (/")
    assert repr(toy_prior).endswith("): blood, muscle>")
    subject = fit(toys.toy_case(5), toy_image_prior)
    fingerprint = toy_image_prior.fingerprint
    assert repr(subject) == f"<ImageSubject toy5: sa 24 x 24 x 6, prior {fingerprint}>"
    assert toys.shown(subject)
    assert repr(subject.render()) == "<Rendering 24 x 24 x 6 x 2>"
    with_both = repr(subject.render(probabilities=True))
    assert with_both == "<Rendering 24 x 24 x 6 x 2, with probability>"


def test_the_default_model_shows_its_name():
    assert repr(nisf.load_prior("cardiac-sax")) == (
        "<ImagePrior 48529d77b87b678c (cardiac-sax): LV blood pool, LV myocardium, RV blood pool>"
    )
