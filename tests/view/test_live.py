"""A fit that is watched: its pictures, its end, and the page that shows it."""

import threading

import numpy as np
import pytest

import toys
from chromium import chromium_page, needs_chromium
from nisf.config.fit_options import FitOptions
from nisf.errors import CannotFitError
from nisf.segmentation import Request, segment_case
from nisf.view.library import Entry, Library
from nisf.view.live import SIZE, LiveFit
from nisf.view.packets import Packet
from nisf.view.viewed import Viewed


def live(prior, **options):
    case = toys.toy_case(99)
    request = Request(find="whole", fit=FitOptions(**options))
    return LiveFit(lambda see: segment_case(case, prior, request, see=see), case), case, request


def run(fit):
    """Packets of a fit, and the subject."""
    work, packets = fit.work(), []
    while True:
        try:
            answer = next(work)
        except StopIteration as end:
            return packets, end.value
        if isinstance(answer, Packet):
            packets.append(answer)


@pytest.mark.parametrize("method", ["adam", "second-order"])
def test_steps_are_shown_and_change_nothing(toy_prior, method, monkeypatch):
    # Every step, however fast the machine is.
    monkeypatch.setattr("nisf.view.live.LEAST_SECONDS", 0.0)
    monkeypatch.setattr("nisf.view.live.PATIENCE", 0.0)
    steps = {"steps": 40} if method == "adam" else {}
    fit, case, request = live(toy_prior, method=method, **steps)
    packets, subject = run(fit)
    first, last = packets[0].header["fit"], packets[-1].header["fit"]
    assert first["step"] == 0
    assert last["loss"] < first["loss"]
    assert last["panels"] == ["Measured", "Field", "Across"]
    panels = np.frombuffer(packets[-1].payload, np.uint8).reshape(3, 2, SIZE, SIZE)
    assert panels[:, 0].std(axis=(1, 2)).min() > 5
    assert not panels[0, 1].any()
    alone = segment_case(case, toy_prior, request)
    np.testing.assert_array_equal(subject.latent, alone.latent)


def test_an_image_prior_has_no_steps(toy_image_prior):
    packets, subject = run(live(toy_image_prior)[0])
    assert packets == []
    assert subject.name == "toy99"


def test_it_ends_when_nobody_watches(toy_prior):
    work = live(toy_prior, method="adam", steps=100_000)[0].work()
    while not isinstance(next(work), Packet):
        pass
    work.close()
    assert all(thread.name != "nisf-fit" for thread in threading.enumerate())


def test_an_error_of_the_fit_is_told():
    def fails(_):
        raise CannotFitError("toy99: nothing was measured")

    with pytest.raises(CannotFitError, match="nothing was measured"):
        run(LiveFit(fails, toys.toy_case(99)))


@pytest.fixture
def watched(toy_prior):
    """A viewer of a scan that is fitted in many steps: the first time endlessly."""
    pytest.importorskip("uvicorn", reason="needs nisf[view]: starlette and uvicorn")
    counts = [100_000, 60]

    def opened():
        fit, case, _ = live(toy_prior, method="adam", steps=counts.pop(0))
        yield Viewed((yield from fit.work()), case)

    return Library([Entry("toy99", opened)])


@needs_chromium
def test_the_page_shows_stops_and_starts_it_again(watched, serving):
    with serving(watched) as (host, token), chromium_page(900, 700) as page:
        page.goto(f"http://{host}/?token={token}")
        page.wait_for_function("() => nisfPage.live.steps.length > 2")
        assert page.locator("#fit figure").count() == 3
        assert page.evaluate("() => nisfPage.live.panels.querySelector('canvas').toDataURL().length") > 2000
        assert "Loss of the intensities" in page.inner_text("#fit")
        page.click("text=Stop the fit")
        page.wait_for_function(
            "() => document.querySelector('#cover-text').innerText === 'The fit was stopped.'"
        )
        page.click("text=Fit again")
        page.wait_for_function("() => nisfPage.info && nisfPage.idle()")
        assert page.is_hidden("#cover")
        assert page.said == []
