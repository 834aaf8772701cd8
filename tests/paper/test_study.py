import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nisf.data.anatomy import load_anatomy
from nisf.errors import NisfError
from nisf.paper.budget import BUDGETS, budget
from nisf.paper.methods import by_unet
from nisf.paper.study import Study, Variant, at_phases
from nisf.phantom import Scanner, cohort
from tiny_budget import TINY

ANATOMY = load_anatomy("cardiac-sax")
SMALL = Scanner(matrix=(30, 30), spacing_mm=6.0, frames=4)


def test_parts_are_disjoint(study):
    names = {part: {f.name for f in files} for part, files in study.files.items()}
    assert sum(map(len, names.values())) == len(set().union(*names.values())) == 6
    assert all(names.values())


def test_same_test_subjects_as_training_holds_back(phantoms, tmp_path):
    from nisf.cli.cases import split
    from nisf.io.readers import open_cohort

    files = open_cohort(phantoms, ANATOMY)
    _, held = split(files, "every-5th", ANATOMY, "auto")
    study = Study(phantoms, tmp_path, ANATOMY, replace(TINY, test=50))
    assert [f.name for f in study.files["test"]] == [f.name for f in held.files]


def test_at_phases():
    case = next(iter(cohort(1, seed=3, scanner=SMALL))).case
    short = at_phases(case)
    assert len(short.stacks[0].grid.times) == 2
    assert {s.frame for s in short.slices} == {0, 1}
    for item in short.slices:
        assert short.stacks[0].grid.times[item.frame] == item.time
        (same,) = [s for s in case.slices if s.position == item.position and s.time == item.time]
        assert item.label is same.label
    assert {round(t, 6) for t in short.stacks[0].grid.times} == {round(t, 6) for t in case.phases.values()}
    assert at_phases(replace(case, phases={})) is not None
    assert len(at_phases(replace(case, phases={})).slices) == len(case.slices)


def test_once(study):
    calls = []

    def make():
        calls.append(1)
        return [len(calls), np.float64(0.5).item()]

    assert study.once("x/y", [], {"a": (1, 2)}, make) == [1, 0.5]
    assert study.once("x/y", [], {"a": [1, 2]}, make) == [1, 0.5]
    assert study.once("x/y", [], {"a": [1, 3]}, make) == [2, 0.5]
    (study.output / "work" / "x" / "y.json").write_text("{}")
    assert study.once("x/y", [], {"a": [1, 3]}, make) == [3, 0.5]
    # A label was corrected meanwhile: the case has the same name, but is not the same.
    case = study.test[0]
    first, *others = case.slices
    mended = replace(first, label=np.where(first.label == 0, 1, first.label))
    assert study.once("x/z", [case], {}, make) == [4, 0.5]
    assert study.once("x/z", [replace(case)], {}, make) == [4, 0.5]
    assert study.once("x/z", [replace(case, slices=(mended, *others))], {}, make) == [5, 0.5]


def test_a_prior_is_trained_once(study):
    variant = Variant("tiny", study.budget.variant_config("train.steps=2"), snapshots=(1, 2))
    assert not study.trained("tiny")
    first = study.prior(variant)
    assert study.trained("tiny")
    assert study.prior(variant).fingerprint == first.fingerprint
    assert sum("training the prior 'tiny'" in line for line in study.said) == 1
    # Read by a later run, with the finder's minimum certainty from training.
    region = replace(first.config.region, certain=0.25)
    replace(first, config=replace(first.config, region=region), folder=None).save(study.folder("tiny"))
    later = Study(study.cohort.root, study.output, ANATOMY, TINY)
    assert later.prior(variant).config.region.certain == 0.25
    other = Variant("tiny", study.budget.variant_config("train.steps=3"))
    with pytest.raises(NisfError, match="another budget"):
        study.prior(other)


def test_other_subjects_are_refused(study, tmp_path):
    from nisf.phantom import write_cohort

    write_cohort(tmp_path / "data", 5, seed=9, scanner=SMALL)
    assert study.validation
    with pytest.raises(NisfError, match="other subjects"):
        Study(tmp_path / "data", study.output, ANATOMY, TINY)
    # A folder belongs to its subjects only once their images were read: an estimate reads none.
    Study(study.cohort.root, tmp_path / "output", ANATOMY, TINY)
    Study(tmp_path / "data", tmp_path / "output", ANATOMY, TINY)


def test_changed_images_of_the_same_subjects_are_refused(study, tmp_path):
    """What was trained on the old ones would be taken for trained on the new ones."""
    data = tmp_path / "data"
    shutil.copytree(study.cohort.root, data)
    first = Study(data, tmp_path / "output", ANATOMY, TINY)
    assert first.training
    for name in ("training", "validation"):
        copied = first.files[name][0].stacks[0].labels[0]
        before = copied.read_bytes()
        copied.write_bytes(before)  # touched, with the same content
        assert Study(data, tmp_path / "output", ANATOMY, TINY).training
        volume = nib.load(copied)
        nib.save(nib.Nifti1Image(np.asarray(volume.dataobj) * 0, volume.affine, volume.header), copied)
        with pytest.raises(NisfError, match=f"other images or labels of {first.files[name][0].name};"):
            Study(data, tmp_path / "output", ANATOMY, TINY)
        copied.write_bytes(before)
    # A folder of an earlier version lists names only.
    listed = tmp_path / "output" / "subjects.json"
    names = json.loads(listed.read_text())
    del names["files"]
    listed.write_text(json.dumps(names))
    copied.write_bytes(b"")
    Study(data, tmp_path / "output", ANATOMY, TINY)


def test_too_few_subjects(tmp_path):
    from nisf.phantom import write_cohort

    write_cohort(tmp_path / "data", 3, seed=9, scanner=SMALL)
    with pytest.raises(NisfError, match="at least 5"):
        Study(tmp_path / "data", tmp_path / "out", ANATOMY, TINY)


def test_no_test_subject_can_be_read(phantoms, tmp_path):
    import shutil

    data = shutil.copytree(phantoms, tmp_path / "data")
    said = []
    study = Study(data, tmp_path / "out", ANATOMY, TINY, say=said.append)
    image = data / study.files["test"][0].name / "sa.nii.gz"
    image.write_bytes(image.read_bytes()[:500])
    with pytest.raises(NisfError, match="no readable test subject"):
        _ = study.test
    assert not study.other_stacks
    (left_out,) = [line for line in said if line.startswith("left out: ")]  # though it was tried twice
    assert str(image) in left_out
    assert len(said) == 1 + len(study.cohort.notes)


def test_reused_prior_must_fit(phantoms, tmp_path, toy_prior):
    other = Study(phantoms, tmp_path, ANATOMY, TINY, reuse={"paper": toy_prior.folder})
    with pytest.raises(NisfError, match="structures"):
        other.prior(other.paper)


def test_a_prior_that_knows_test_subjects_is_refused(phantoms, study, tmp_path, monkeypatch):
    from nisf.io.readers import cached_case, open_cohort
    from nisf.training.train import TrainOptions, train

    files = open_cohort(phantoms, ANATOMY).cases
    cases = [cached_case(f, ANATOMY, tmp_path / "cache") for f in files[3:5]]
    config = study.budget.variant_config("train.steps=1")
    prior = train(cases, [], ANATOMY, config, tmp_path / "prior", TrainOptions(say=lambda _: None))
    other = Study(phantoms, tmp_path / "out", ANATOMY, TINY, reuse={"paper": prior.folder})
    with pytest.raises(NisfError, match="trained on test subjects"):
        other.prior(other.paper)
    # The checkpoint of a U-Net has the same form.
    monkeypatch.setattr(Study, "prior", lambda *_: prior)
    other = Study(phantoms, tmp_path / "out", ANATOMY, TINY, reuse={"unet": prior.folder})
    with pytest.raises(NisfError, match="trained on test subjects"):
        by_unet(other)


def test_a_prior_that_does_not_list_its_subjects_is_told(phantoms, tmp_path):
    said = []
    reuse = {"image": Path("cardiac-sax")}
    study = Study(phantoms, tmp_path, ANATOMY, TINY, reuse=reuse, say=said.append)
    study.prior(study.image)
    assert any(line.startswith("cardiac-sax: does not list its training subjects") for line in said)


@pytest.mark.parametrize("name", BUDGETS)
def test_budgets_make_settings(name):
    found = budget(name, test=3)
    assert found.test == 3
    assert found.paper_config().preset == "paper"
    assert found.image_config().field.kind == "image"
    assert found.variant_config("field.latent=7").field.latent == 7


def test_unknown_budget():
    with pytest.raises(NisfError, match="years: no such budget") as caught:
        budget("years")
    assert caught.value.options == ("budget",)
    with pytest.raises(NisfError, match="0 test subjects; give at least 1") as caught:
        budget("hours", 0)
    assert caught.value.options == ("test",)
