import torch

from nisf.device import CPU
from nisf.optimisation.graph import WARM_UP, Captured


def test_on_the_processor_every_call_is_the_work():
    done, said = [], []

    def work():
        done.append(1)
        return {"loss": torch.tensor(float(len(done)))}

    captured = Captured(work, CPU, said.append)
    assert [float(captured()["loss"]) for _ in range(6)] == [1, 2, 3, 4, 5, 6]
    assert not said


def test_what_cannot_be_captured_goes_on(monkeypatch):
    """No step is lost, and one sentence is said."""
    done, said = [], []

    def work():
        done.append(1)
        return {}

    captured = Captured(work, CPU, said.append)
    captured.possible = True
    monkeypatch.setattr(captured, "_aside", work)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)

    class Failing:
        def __init__(self):
            raise RuntimeError("no graphs here")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Failing)
    for _ in range(WARM_UP + 4):
        captured()
    assert len(done) == WARM_UP + 4
    assert len(said) == 1
    assert "no graphs here" in said[0]
