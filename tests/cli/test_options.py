"""Options that mean nothing to a kind of prior are refused; those that do reach what they ask for."""

import re

import pytest

import nisf.subject.islands
import toys
from nisf.cli import main, option_names, parsed
from nisf.config.fit_options import FitOptions
from nisf.config.schema import FitConfig
from nisf.io.writers import write_volume
from nisf.phantom import Scanner, write_cohort

pytestmark = pytest.mark.usefixtures("light")
SMALL = Scanner(matrix=(36, 36), spacing_mm=5.0, thickness_mm=14.0, gap_mm=4.0, frames=2)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("options") / "cohort"
    write_cohort(folder, 3, seed=4, scanner=SMALL)
    return folder


@pytest.fixture
def scan(tmp_path):
    case = toys.toy_case(3)
    write_volume(tmp_path / "scan.nii.gz", toys.image_of(case), case.stacks[0].grid)
    return tmp_path / "scan.nii.gz"


def run(capsys, *words):
    """Exit status, output and errors."""
    status = main([str(word) for word in words])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--steps", "3"], "--steps"),
        (["--shifts", "--pose"], "--shifts, --pose"),
        (["--gains", "--method", "adam"], "--method, --gains"),
        (["--seed", "4"], "--seed"),
    ],
)
def test_a_prior_that_fits_nothing_refuses_how_to_fit(
    toy_image_prior, scan, tmp_path, capsys, options, named
):
    prior = ["--prior", toy_image_prior.folder]
    status, _, error = run(capsys, "segment", scan, "-o", tmp_path / "out", *prior, *options)
    assert status == 2
    assert error.endswith(f"give a prior of another kind ({named})\n")
    assert not (tmp_path / "out").exists()


def test_evaluate_refuses_steps_that_mean_nothing(toy_image_prior, cohort, tmp_path, capsys):
    prior = ["--prior", toy_image_prior.folder]
    status, _, error = run(capsys, "evaluate", cohort, *prior, "--steps", "3")
    assert (status, error.count("\n")) == (2, 1)
    assert "steps: has no effect on a prior of the kind 'image'" in error
    status, _, error = run(capsys, "evaluate", cohort, "--predictions", tmp_path, "--steps", "3")
    assert (status, "--steps 3: needs --prior" in error) == (2, True)


def test_steps_are_iterations_of_the_second_order_method():
    second = FitConfig(method="second-order", steps=100, iterations=80)
    assert FitOptions(steps=7).applied_to(second) == FitConfig(method="second-order", steps=100, iterations=7)
    assert FitOptions(steps=7).applied_to(FitConfig()).steps == 7
    assert FitOptions(steps=7, method="second-order").applied_to(FitConfig()).iterations == 7
    assert FitOptions().given() == []


@pytest.mark.parametrize(
    ("preset", "setting"),
    [
        ("cpu", "image.width=64"),
        ("demo", "augment.noise=0"),
        ("image", "field.latent=3"),
        ("image", "fit.steps=9"),
    ],
)
def test_settings_without_a_meaning_are_refused(cohort, tmp_path, capsys, preset, setting):
    words = ["train", cohort, "-o", tmp_path / "prior", "--preset", preset, "--set", "train.steps=2", setting]
    status, _, error = run(capsys, *words)
    assert status == 2
    assert re.search(rf"--set {setting.split('=')[0]}: does not apply to a field of the kind '\w+'", error)
    assert not (tmp_path / "prior").exists()


def test_workers_without_a_meaning_are_refused(cohort, tmp_path, capsys):
    brief = ["--set", "train.steps=2", "region.finder_steps=2"]
    words = ["train", cohort, "-o", tmp_path / "prior", "--preset", "demo", "--workers", "2", *brief]
    status, _, error = run(capsys, *words)
    assert status == 2
    assert "draws its points in the training process" in error
    assert error.endswith("(--workers)\n")


def test_memory_is_kept_to_where_islands_are_looked_for(toy_image_prior, scan, tmp_path, capsys, monkeypatch):
    asked = []
    find = nisf.subject.islands.IslandMap._find

    def noted(self, frame, label, memory_mb):
        asked.append(memory_mb)
        return find(self, frame, label, memory_mb)

    monkeypatch.setattr(nisf.subject.islands.IslandMap, "_find", noted)
    prior = ["--prior", toy_image_prior.folder, "--islands", "remove", "--memory-mb", "37"]
    assert run(capsys, "segment", scan, "-o", tmp_path / "out", *prior)[0] == 0
    fine = ["-o", tmp_path / "fine.nii.gz", "--spacing", "6,6,10", "--memory-mb", "41"]
    assert run(capsys, "render", tmp_path / "out" / "scan.nisf", *fine)[0] == 0
    assert set(asked[:2]) == {37.0}
    assert set(asked[2:]) == {41.0}


def test_the_time_told_is_the_whole_time(toy_image_prior, scan, tmp_path, capsys, monkeypatch):
    """Rendering and writing too, not only the fit; and where it went, if asked."""
    import time

    from nisf.io import writers

    write = writers.write_volume

    def slowly(*arguments, **options):
        time.sleep(0.3)
        write(*arguments, **options)

    monkeypatch.setattr(writers, "write_volume", slowly)
    words = ["segment", scan, "-o", tmp_path / "out", "--prior", toy_image_prior.folder]
    status, out, _ = run(capsys, *words, "--verbose")
    assert status == 0
    assert float(re.search(r"segmented in ([\d.]+) s", out)[1]) >= 0.6
    stages = dict(
        re.findall(r"([a-z ]+?) ([\d.]+) s(?:,|$)", re.search(r"\[1/1\] scan: (.*writing .*)", out)[1])
    )
    stages = {name.strip(): float(seconds) for name, seconds in stages.items()}
    assert set(stages) >= {"reading", "rendering", "writing", "fitting"}
    assert list(stages.values()) == sorted(stages.values(), reverse=True)
    assert stages["writing"] >= 0.6
    assert "reading" not in run(capsys, *words, "--overwrite")[1]


def test_the_options_of_a_command_include_nested_groups():
    names = option_names(parsed(["segment", "a.nii.gz", "-o", "out"]))
    assert {"output", "overwrite", "steps", "corrections"} <= names
    assert "overwrite" not in option_names(parsed(["train", "data", "-o", "prior"]))
