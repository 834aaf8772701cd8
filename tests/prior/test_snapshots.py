import pytest
import torch

import toys
from nisf.errors import BadFileError
from nisf.prior.snapshots import prior_at, snapshot_steps


@pytest.mark.parametrize("config", [toys.TINY, toys.IMAGE], ids=["latent", "image"])
def test_snapshots_are_what_the_training_was(tmp_path, config):
    config = toys.settings(config, train={"steps": 6}, region={"finder_steps": 3})
    whole = toys.train_toy(tmp_path / "a", config, validation=[], snapshots=(2, 4, 6))
    assert snapshot_steps(tmp_path / "a") == [2, 4, 6]
    last = prior_at(whole, 6)
    assert last.fingerprint == whole.fingerprint
    for name, tensor in whole.weights().items():
        torch.testing.assert_close(last.weights()[name], tensor)
    assert len({prior_at(whole, step).fingerprint for step in (2, 4, 6)}) == 3


def test_missing_snapshot(tmp_path):
    config = toys.settings(toys.TINY, train={"steps": 2})
    prior = toys.train_toy(tmp_path, config, validation=[], snapshots=(1,))
    with pytest.raises(BadFileError, match="no snapshot of its training after 2"):
        prior_at(prior, 2)
    path = tmp_path / "snapshots" / "step-1.safetensors"
    wider = toys.settings(toys.TINY, field={"width": 12}, train={"steps": 1})
    toys.train_toy(tmp_path / "b", wider, validation=[], snapshots=(1,))
    path.write_bytes((tmp_path / "b" / "snapshots" / "step-1.safetensors").read_bytes())
    with pytest.raises(BadFileError, match="weights and settings do not belong together"):
        prior_at(prior, 1)
