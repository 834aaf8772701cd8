"""``nisf info``: what made an output."""

import json
import shutil
from dataclasses import replace

import pytest

import toys
from nisf.cli import main
from nisf.config.overrides import to_dict
from nisf.config.presets import PRESETS
from nisf.files import write_json
from nisf.kinds.load import load_prior
from nisf.outputs import Made, recorded
from nisf.outputs.origin import origins
from nisf.prior.bundled import FOLDER
from nisf.segmentation import segment_case, write_segmentation


@pytest.fixture(scope="module")
def out(toy_image_prior, tmp_path_factory):
    folder = tmp_path_factory.mktemp("info") / "out"
    prior = load_prior(toy_image_prior.folder)
    for seed in (50, 5):  # the name of one begins the other's
        write_segmentation(segment_case(toys.toy_case(seed), prior), folder)
    return folder


def told(capsys, path, status=0):
    assert main(["info", str(path), "--json"]) == status
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["toy50_seg.nii.gz", "toy50_image.nii.gz", "toy50.nisf"])
def test_what_segment_wrote(out, toy_image_prior, capsys, name):
    found = told(capsys, out / name)["written_by"]
    assert [(one["part"], one["case"], one["changed"]) for one in found] == [("segment", "toy50", [])]
    assert found[0]["prior"] == toy_image_prior.fingerprint
    assert set(found[0]["versions"]) == {"python", "nisf", "torch", "numpy"}
    assert found[0]["written"].endswith("Z")
    assert main(["info", str(out / name)]) == 0
    text = capsys.readouterr().out
    assert "written by segment of toy50 (record: toy50.run.json)" in text
    assert "content: as it was written" in text
    assert f"prior: {toy_image_prior.fingerprint}" in text


def test_a_record_and_a_folder(out, toy_image_prior, capsys):
    found = told(capsys, out / "toy5.run.json")["written_by"]
    assert {name for one in found for name in one["files"]} >= {"toy5.nisf", "toy5_seg.nii.gz"}
    found = told(capsys, toy_image_prior.folder)
    assert found["itself"]["fingerprint"] == toy_image_prior.fingerprint
    assert found["written_by"][0]["part"] == "train"
    assert found["written_by"][0]["options"]["settings"]["train"]["steps"] == toys.IMAGE.train.steps
    assert found["written_by"][0]["options"]["seed"] == toys.IMAGE.train.seed


def test_settings_that_differ_from_the_preset(tmp_path, capsys):
    config = replace(PRESETS["image"], train=replace(PRESETS["image"].train, steps=7))
    with recorded(tmp_path, "", "train", Made(options={"settings": to_dict(config), "seed": 3})):
        write_json(tmp_path / "log.json", {})
    assert main(["info", str(tmp_path / "log.json")]) == 0
    few = capsys.readouterr().out.splitlines()
    assert "  seed: 3" in few
    assert [line for line in few if line.startswith("  settings.")] == ["  settings.train.steps: 7"]
    assert not any(line.startswith("  input:") for line in few)
    assert main(["info", str(tmp_path / "log.json"), "--all"]) == 0
    every = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  settings.")]
    assert few[-1] == f"  settings: {len(every) - 1} more as in the preset image; --all prints them"
    assert "  settings.train.subjects: 2" in every


def test_a_checkpoint(toy_image_prior, capsys):
    found = told(capsys, toy_image_prior.folder / "checkpoint.safetensors")
    assert found["itself"]["what"] == "a checkpoint"
    assert found["itself"]["step"] == str(toys.IMAGE.train.steps)


def test_a_model_that_comes_with_nisf(capsys):
    found = told(capsys, FOLDER / "cardiac-sax")
    assert found["written_by"] == []
    assert found["itself"]["what"] == "a prior"


def test_a_subject_without_its_record(out, toy_image_prior, tmp_path, capsys):
    shutil.copy(out / "toy50.nisf", tmp_path)
    assert told(capsys, tmp_path / "toy50.nisf")["itself"]["prior"] == toy_image_prior.fingerprint
    assert main(["info", str(tmp_path / "toy50.nisf")]) == 0
    assert "no record lists it" in capsys.readouterr().out


def test_what_was_changed_or_is_gone(out, tmp_path, capsys):
    shutil.copytree(out, tmp_path / "out")
    file = tmp_path / "out" / "toy50_seg.nii.gz"
    assert not origins(file)[0].changed()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert told(capsys, file, 1)["written_by"][0]["changed"] == [file.name]
    file.unlink()
    assert told(capsys, tmp_path / "out" / "toy50.run.json", 1)["written_by"][0]["changed"] == [file.name]
    assert main(["info", str(tmp_path / "out" / "toy50.run.json")]) == 1
    assert "changed or removed: toy50_seg.nii.gz" in capsys.readouterr().out


def test_files_below_the_folder_of_their_record(tmp_path, capsys):
    with recorded(tmp_path, "", "report"):
        write_json(tmp_path / "pages" / "a" / "index.json", {})
    found = told(capsys, tmp_path / "pages" / "a" / "index.json")["written_by"]
    assert [one["part"] for one in found] == ["report"]


@pytest.mark.parametrize("name", ["mine.nii.gz", "mine.nisf", "mine.safetensors", "run.json", "x.run.json"])
def test_what_nisf_did_not_write(out, tmp_path, capsys, name):
    path = tmp_path / name
    path.write_bytes(b"{}" if "run" in name else b"mine")
    assert main(["info", str(path)]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert "not" in printed.err
    assert not printed.out
    stranger = out / "toy50_mine.txt"
    stranger.write_text("x")
    assert main(["info", str(stranger)]) == 2
    assert "not written by nisf, or moved away from its record" in capsys.readouterr().err
    stranger.unlink()


def test_no_such_file_and_a_strange_folder(tmp_path, capsys):
    assert main(["info", str(tmp_path / "none")]) == 2
    assert "no such file" in capsys.readouterr().err
    assert main(["info", str(tmp_path)]) == 2
    assert "not written by nisf" in capsys.readouterr().err
