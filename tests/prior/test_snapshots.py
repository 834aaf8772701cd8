import pytest
import torch

import toys
from nisf.errors import NisfError
from nisf.prior.snapshots import kept_stages, prior_at


@pytest.mark.parametrize("config", [toys.TINY, toys.IMAGE], ids=["latent", "image"])
def test_stages_are_what_the_training_was(tmp_path, config):
    config = toys.settings(config, train={"steps": 6})
    whole = toys.train_toy(tmp_path / "a", config, held=[], stages=(2, 4, 6))
    assert kept_stages(tmp_path / "a") == [2, 4, 6]
    last = prior_at(whole, 6)
    assert last.fingerprint == whole.fingerprint
    torch.testing.assert_close(last.latent_mean, whole.latent_mean)
    assert len({prior_at(whole, step).fingerprint for step in (2, 4, 6)}) == 3


def test_missing_stage(tmp_path):
    prior = toys.train_toy(tmp_path, toys.settings(toys.TINY, train={"steps": 2}), held=[], stages=(1,))
    with pytest.raises(NisfError, match="kept no stage after 2"):
        prior_at(prior, 2)
    path = tmp_path / "stages" / "step-1.safetensors"
    wider = toys.settings(toys.TINY, field={"width": 12}, train={"steps": 1})
    toys.train_toy(tmp_path / "b", wider, held=[], stages=(1,))
    path.write_bytes((tmp_path / "b" / "stages" / "step-1.safetensors").read_bytes())
    with pytest.raises(NisfError, match="does not belong"):
        prior_at(prior, 1)
