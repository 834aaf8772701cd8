import pytest

from nisf.cli.progress import CohortProgress, TrainingProgress, outcome


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    now = [100.0]
    monkeypatch.setattr("nisf.cli.progress.time.monotonic", lambda: now[0])
    return now


def record(step):
    return {"step": step, "loss": 1.0, "class_bce": 0.2, "dice_loss": 0.1, "intensity_bce": 0.5}


@pytest.mark.parametrize(("minutes", "left"), [(0.0, 9.0), (20.0, 9.0), (3.0, 2.0)])
def test_a_training_ends_at_its_time_limit(minutes, left, clock, capsys):
    with TrainingProgress(1000, minutes) as progress:
        progress.report(record(0))
        clock[0] += 60
        progress.report(record(100))
        assert capsys.readouterr().out == f"step 100 of 1000: class 0.300 intensity 0.500, {left} min left\n"
        clock[0] += 1
        progress.report(record(110))
        assert capsys.readouterr().out == ""
        progress.say("validation: Dice 0.9")
        assert capsys.readouterr().out == (
            "step 110 of 1000: class 0.300 intensity 0.500\nvalidation: Dice 0.9\n"
        )
        clock[0] += 1
        progress.report(record(120))
    # The last step is shown, whichever it is.
    assert capsys.readouterr().out == "step 120 of 1000: class 0.300 intensity 0.500\n"


def test_the_closing_line_is_true(capsys):
    with CohortProgress(2) as progress:
        progress.tell("[1/2] anna", "reading")
        assert progress.slowest() == ""
        progress.end({"reading": 1.0, "answering": 3.0}, 4.0)
        progress.end({"reading": 2.5, "answering": 1.5}, 6.0)
    assert progress.slowest() == " (slowest step: answering, 4.5 s)"
    assert (
        progress.slowest("with 2 workers")
        == " with 2 workers (slowest step: answering, 45 % of the cases' time)"
    )
    assert capsys.readouterr().err == ""


def test_a_line_now_and_then(capsys):
    with CohortProgress(2, seconds=0.0) as progress:
        progress.tell("[1/2] anna", "answering 3 of 9")
        progress.say("[1/2] anna: failed: why", error=True)
    assert capsys.readouterr().err == "[1/2] anna: answering 3 of 9\n[1/2] anna: failed: why\n"


def test_how_a_case_went():
    assert outcome({"region": "finder"}, 2.0) == "segmented in 2.0 s, anatomy found by the finder"
    fitted = {"intensity_bce": 0.5, "converged": False}
    assert outcome(fitted, 2.0).endswith("(intensity loss 0.5000), not converged: give more --steps")


def test_how_far_slices_were_moved():
    summary = {"region": "finder"}
    assert "moved" not in outcome(summary, 1.0)
    assert outcome({**summary, "moved_mm": [1.0, 3.0]}, 1.0).endswith(
        ", 2 slices moved by 2.0 mm on average, 3.0 mm at most"
    )
    assert outcome({**summary, "moved_mm": []}, 1.0).endswith(
        ", no slice moved (no planes in other directions intersect them)"
    )
