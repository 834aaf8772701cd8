"""The page of one file: its decoder gives Python's answers, and it asks for nothing."""

import re
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import toys
from chromium import chromium_page, needs_chromium
from nisf.data.geometry import cycle_times
from nisf.errors import BadFileError, BadSettingError, CannotFitError
from nisf.networks.image_field import ImageField
from nisf.prior.fit import fit
from nisf.view.bundle import bundled
from nisf.view.static import PAGE, evenly_spread, static_page, write_static
from nisf.view.viewed import Viewed

ROOT = Path(__file__).parents[2]
ASK = "async ([w, t]) => [...await nisfPage.source.ask(w, t)]"


@pytest.fixture(scope="module")
def written(toy_seen, tmp_path_factory):
    path = tmp_path_factory.mktemp("static") / "toy.html"
    return path, write_static(Viewed(*toy_seen), path)


def test_one_file_that_may_fetch_nothing(written):
    path, made = written
    text = path.read_text(encoding="utf-16")
    assert made.html == text
    assert made.file == path.read_bytes()
    assert made.phases == (2, 2)
    assert 0 < made.error < 1e-3
    assert not re.search(r'(src|href)="', text)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy
    assert "unsafe-inline" not in policy


def test_fewer_phases_where_not_all_fit(toy_seen):
    viewed = Viewed(*toy_seen)
    most = len(static_page(viewed, measured=False).file) / 1e6 - 1e-3
    made = static_page(viewed, most, measured=False)
    assert made.phases == (1, 2)
    assert len(made.file) / 1e6 <= most
    with pytest.raises(BadSettingError, match="one phase takes"):
        static_page(viewed, 0.01)


@pytest.mark.parametrize(
    ("named", "kept"),
    [([0, 14], [0, 14, 20]), ([0, 4], [0, 4, 20]), ([14, 15], [0, 14, 15]), ([], [0, 10, 20])],
)
def test_named_phases_are_among_the_few_that_are_kept(named, kept):
    """Also where both are near the same one of three that are evenly spread over thirty."""
    times = cycle_times(30)
    assert evenly_spread(times, [float(times[k]) for k in named], 3) == kept
    assert evenly_spread(times, [0.5], 2) == [0, 15]


def test_a_latent_has_no_page_of_its_own(toy_fitted):
    with pytest.raises(CannotFitError, match="kind 'latent'"):
        toy_fitted.portable([0], toy_fitted.region)


def test_the_bundle_has_every_module_once_and_before_its_use():
    script = bundled(PAGE, "static-main.js")
    made = re.findall(r"^const (m_\w+) = ", script, re.MULTILINE)
    assert len(made) == len(set(made)) > 15
    for name in made:
        uses = [found.start() for found in re.finditer(rf"= {name};", script)]
        assert all(use > script.index(f"const {name} = ") for use in uses)


@contextmanager
def opened(path, width, height):
    """A page of one file in a browser; it says nothing on the console and fetches nothing."""
    with chromium_page(width, height) as page:
        page.goto(path.as_uri())
        page.wait_for_function("() => window.nisfPage?.info")
        yield page
    assert page.said == []
    assert all(url.startswith(("file:", "blob:", "data:")) for url in page.asked)


@needs_chromium
def test_the_decoder_gives_the_answers_of_python(written, toy_seen):
    path, _ = written
    with opened(path, 700, 500) as page:
        places = np.random.default_rng(0).uniform(-36, 36, (600, 3)) * [1, 1, 0.8]
        for time in (0.0, 0.5, 0.2):
            found = np.array(page.evaluate(ASK, [places.tolist(), time])).reshape(600, -1)
            region = page.evaluate("() => nisfPage.info.region")
            pose = np.array(region["pose"])
            inside = (np.abs(places @ pose[:3, :3].T + pose[:3, 3]) <= region["half"]).all(1)
            assert inside.sum() > 100
            answer = toy_seen[0].answers.answer(places, np.full(600, time), memory_mb=256.0)
            wanted = np.c_[answer.intensity, answer.probability]
            assert np.abs(found - wanted)[inside].max() < 1e-3
        # The same without WebAssembly's vectors.
        plain = page.evaluate(
            "async (places) => { const text = document.getElementById('nisf-worker').textContent; "
            "const blob = new Blob(['WebAssembly.Instance = null;', text], { type: 'text/javascript' }); "
            "nisfPage.source.workers = [nisfPage.source.started(URL.createObjectURL(blob))]; "
            "return [...await nisfPage.source.ask(places, 0.2)]; }",
            places.tolist(),
        )
        assert np.abs(np.array(plain).reshape(600, -1) - found).max() < 1e-4
        page.wait_for_function("() => nisfPage.views.a.canvas.dataset.sharp !== undefined")


@needs_chromium
def test_forty_classes_are_decoded_like_three(toy_image_prior, tmp_path):
    """An untrained network, so that every class occurs and islands of almost all are removed."""
    labels = ("background", *(f"part {k}" for k in range(1, 40)))
    config = toys.settings(toy_image_prior.config, field={"classes": 40})
    torch.manual_seed(0)
    prior = replace(
        toy_image_prior,
        anatomy=replace(toys.ANATOMY, labels=labels, colours=("#123456",) * 40, phases=None),
        config=config,
        field=ImageField(config.field, config.image).eval(),
        folder=None,
    )
    case = replace(toys.toy_case(99, toys.toy_grid(shape=(24, 24, 4), frames=1)), labels=labels)
    subject = replace(fit(case, prior, find="whole"), islands="remove")
    write_static(Viewed(subject, case), tmp_path / "many.html", measured=False)
    places = np.random.default_rng(0).uniform(-20, 20, (300, 3))
    assert subject.region.contains(places).all()
    answer = subject.answers.answer(places, np.zeros(300), memory_mb=256.0)
    assert len(np.unique(answer.probability.argmax(1))) > 10
    assert subject.island_map.at(0, memory_mb=256.0).structures[:, 32:].any()
    with opened(tmp_path / "many.html", 400, 300) as page:
        found = np.array(page.evaluate(ASK, [places.tolist(), 0.0])).reshape(300, -1)
    assert np.abs(found - np.c_[answer.intensity, answer.probability]).max() < 1e-3


@needs_chromium
def test_the_page_of_the_documents_opens():
    with opened(ROOT / "docs" / "images" / "phantom.html", 500, 400) as page:
        assert page.evaluate("() => nisfPage.info.labels")[1] == "LV blood pool"
        drawn = (
            "(k) => nisfPage.views.a.sheet && [...nisfPage.views.a.sheet.label].filter((x) => x === k).length"
        )
        page.wait_for_function(f"() => ({drawn})(1) > 50")


def test_a_file_of_the_user_stays(toy_seen, tmp_path):
    path = tmp_path / "toy.html"
    path.write_text("mine")
    with pytest.raises(BadFileError, match=r"toy\.html: was not written by nisf"):
        write_static(Viewed(*toy_seen), path)
    assert path.read_text() == "mine"
    made = write_static(Viewed(*toy_seen), path, overwrite=True)
    assert path.read_bytes() == made.file
