import json
import multiprocessing
import os
import signal
import subprocess
import sys
import warnings

import pytest
import torch

import toys
from nisf.errors import BadSettingError, NisfError
from nisf.files import read_tensors
from nisf.kinds.load import load_prior
from nisf.optimisation import loop
from nisf.optimisation.checkpoint import stored_settings
from nisf.outputs import read_record


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


ROWS = toys.settings(toys.TINY, train={"latent_rows": True, "schedule": "cosine"})


@pytest.fixture(scope="module", params=[toys.TINY, ROWS], ids=["all latents", "latent rows"])
def undisturbed(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "whole"
    return request.param, folder, toys.train_toy(folder, request.param)


def same_run(undisturbed, folder, prior):
    _, expected_folder, expected = undisturbed
    assert prior.fingerprint == expected.fingerprint
    assert log(folder) == log(expected_folder)
    found, wanted = (read_tensors(f / "checkpoint.safetensors") for f in (folder, expected_folder))
    assert found[1] == wanted[1]
    assert set(found[0]) == set(wanted[0])
    for name, tensor in wanted[0].items():
        assert torch.equal(found[0][name], tensor), name
    assert prior.config == expected.config
    assert prior.card == expected.card
    assert torch.equal(prior.latent_mean, expected.latent_mean)


@pytest.mark.parametrize("at", [10, 30, 40, 50])
def test_resume_after_a_crash(undisturbed, tmp_path, at):
    config = undisturbed[0]

    def crash(record):
        if record["step"] == at:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        toys.train_toy(tmp_path / "a", config, report=crash)
    assert not (tmp_path / "a" / "prior.json").exists()
    same_run(undisturbed, tmp_path / "a", toys.train_toy(tmp_path / "a", config, resume=True))


def test_resume_after_a_kill(undisturbed, tmp_path):
    config, folder = undisturbed[0], tmp_path / "a"

    def kill(record):
        if record["step"] == 30:
            with (folder / "log.jsonl").open("a") as file:
                file.write('{"step": 31, "lo')  # a line that the kill cut off
            os.kill(os.getpid(), signal.SIGKILL)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads, from Python 3.12
        fork = multiprocessing.get_context("fork")
        child = fork.Process(target=toys.train_toy, args=(folder, config), kwargs={"report": kill})
        child.start()
    child.join(300)
    hangs = child.is_alive()
    child.kill()
    assert not hangs
    assert child.exitcode == -signal.SIGKILL
    assert (folder / "log.jsonl").read_text().endswith('"lo')  # it was killed in step 30, and not before
    same_run(undisturbed, folder, toys.train_toy(folder, config, resume=True))


def test_resume_before_the_first_step(undisturbed, tmp_path, monkeypatch):
    """The finder and the initial weights are kept as soon as they are there."""
    config, folder = undisturbed[0], tmp_path / "a"

    def crash(*_):
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr("nisf.optimisation.loop._step", crash)
        with pytest.raises(InterruptedError):
            toys.train_toy(folder, config)
    assert (folder / "checkpoint.safetensors").is_file()
    assert stored_settings(folder / "checkpoint.safetensors").train == config.train
    same_run(undisturbed, folder, toys.train_toy(folder, config, resume=True))


def test_two_trainings_in_one_folder(undisturbed, tmp_path):
    config = undisturbed[0]

    def other(_):
        command = [sys.executable, "-c", TRY, str(tmp_path / "a")]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        said.append(ended.stdout)
        raise InterruptedError

    said = []
    with pytest.raises(InterruptedError):
        toys.train_toy(tmp_path / "a", config, report=other)
    assert "another process is writing there" in said[0]


TRY = """
import sys
from nisf.outputs import BusyError, recorded
try:
    with recorded(sys.argv[1], "", "train"):
        pass
except BusyError as error:
    print(error)
"""


def test_resume_of_a_finished_run(undisturbed):
    config, folder, expected = undisturbed
    before = log(folder)
    again = toys.train_toy(folder, config, resume=True)
    assert again.fingerprint == expected.fingerprint
    assert log(folder) == before
    assert again.config.fit.steps == expected.config.fit.steps


def test_the_folder_is_a_prior(undisturbed):
    _, folder, prior = undisturbed
    again = load_prior(folder)
    assert again.fingerprint == prior.fingerprint
    best = prior.card["validation"]["best_steps"]
    assert again.config.fit.steps == best
    assert again.card["training"]["subjects"] == 3
    assert again.card["training"]["slices"] == again.card["training"]["labelled_slices"] == 36
    assert again.card["training"]["spacing_mm"]["largest"] == pytest.approx([4, 4, 10])
    latents = read_tensors(folder / "checkpoint.safetensors")[0]["latents.weight"]
    torch.testing.assert_close(again.latent_mean, latents.mean(0))
    torch.testing.assert_close(again.latent_covariance, torch.cov(latents.T))
    assert [r["step"] for r in log(folder) if "loss" in r] == [10, 20, 30, 40, 50]
    assert [r["step"] for r in log(folder) if "validation" in r] == [20, 40, 50]
    assert {p.name for p in folder.iterdir()} == {
        "prior.json",
        "weights.safetensors",
        "log.jsonl",
        "checkpoint.safetensors",
        "run.json",
    }
    record = read_record(folder).parts["train"]
    assert record.whole(folder)
    assert set(record.files) == {"prior.json", "weights.safetensors", "log.jsonl", "checkpoint.safetensors"}


def test_loss_decreases(undisturbed):
    losses = [r["loss"] for r in log(undisturbed[1]) if "loss" in r]
    assert losses[-1] < losses[0]


def test_refusals(undisturbed, tmp_path):
    config, folder, _ = undisturbed
    with pytest.raises(BadSettingError, match="already contains a run; resume it") as caught:
        toys.train_toy(folder, config)
    assert caught.value.options == ("resume",)
    other = toys.settings(config, train={"learning_rate": 0.5})
    with pytest.raises(NisfError, match=r"was made with other train\.learning_rate \(.*, now 0\.5\)"):
        toys.train_toy(folder, other, resume=True)
    with pytest.raises(NisfError, match="was made with other cases"):
        toys.train_toy(folder, config, cases=toys.toy_cohort(4), resume=True)
    with pytest.raises(NisfError, match="there are no cases to train on"):
        toys.train_toy(tmp_path / "a", cases=[])
    (tmp_path / "file").write_text("")
    with pytest.raises(NisfError, match="cannot be written"):
        toys.train_toy(tmp_path / "file" / "run")


def test_a_loss_that_is_no_number_is_refused(tmp_path, monkeypatch):
    step = loop._step

    def broken(*arguments):
        return {**step(*arguments), "loss": torch.tensor(float("nan"))}

    monkeypatch.setattr(loop, "_step", broken)
    with pytest.raises(NisfError, match="lower the learning rate"):
        toys.train_toy(tmp_path / "b", toys.TINY)


def test_resume_of_nothing_begins(tmp_path):
    config = toys.settings(toys.TINY, train={"steps": 2})
    assert toys.train_toy(tmp_path, config, validation=[], resume=True).card["training"]["steps"] == 2
