import functools
import gc
import os
import time

import hypothesis
import numpy as np
import pytest
import torch
from tyro import _docstrings

import checker

# Before anything of ours is imported: shapes and types in signatures are checked at run time.
checker.install()

hypothesis.settings.register_profile("nisf", deadline=None, max_examples=20, derandomize=True, database=None)
hypothesis.settings.load_profile("nisf")


LIGHT = {
    "kinds.latent.fit.TRIAL_STEPS": 4,
    "kinds.latent.validation.SCORED": 2048,
    "measures.lattice.SPACING_MM": 6.0,
    "measures.lattice.NODES": 24,
    "measures.wall.ANGLES": 24,
    "measures.wall.RAY_ANGLES": np.linspace(0, 2 * np.pi, 24, endpoint=False),
    "measures.wall.FEWEST": 4,
    "mesh.extraction.LARGEST_SPACING_MM": 5.0,
    "mesh.extraction.REGION_STEPS": 20,
    "networks.finder.SEARCHED": 32,
    "networks.finder_training.BATCH": 4,
    "picture.DPI": 30,
    "report.slices.CINE_MM": 5.0,
    "report.slices.CONTOUR_MM": 4.0,
    "report.slices.LOOK_MM": 8.0,
    "subject.views.SEARCH_MM": 8.0,
    "view.coding.CHECKED": 0.5,
    "view.coding.EACH_BLOCK": (0.2, 0.1),
    "view.coding.FEW": 300,
    "view.coding.FEWEST": 100,
}
"""Constants that say how finely something is done, not what is done; see the fixture `light`."""

LONGEST = (
    *("test_docs.py", "test_benchmarks.py", "test_paper.py", "test_inputs.py", "test_page.py"),
    *("test_search.py", "test_ranks.py", "test_workers.py", "test_cli.py"),
)
"""Files that take longest: begun first, so that no worker is left with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; the others stay in order."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONGEST)))


def pytest_collection_finish() -> None:
    """What was imported stays: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def pytest_runtest_setup() -> None:
    """The first calls in each test are checked again."""
    checker.begin_test()


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    # The toys are so small that threads only wait for each other, above all on a busy machine.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_disks():
    # What tests write need not survive a loss of power.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def _sources_are_read_once():
    # The command line's help is made of comments in sources, which tyro reads again for each command.
    with pytest.MonkeyPatch.context() as patch:
        tokens = _docstrings._ClassTokenization
        patch.setattr(tokens, "make", staticmethod(functools.cache(tokens.make)))
        yield


@pytest.fixture(scope="module")
def light():
    """Commands measure, look for axes, draw and mesh coarsely, and try orientations for a few steps only.

    It is the same code and less work. What a coarse answer is worth is tested where no fixture changes it.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in LIGHT.items():
            patch.setattr(f"nisf.{name}", value)
        yield


@pytest.fixture(scope="session")
def toy_cohort():
    """Six toy subjects."""
    import toys

    return toys.toy_cohort(6)


BATCH = 16
"""Slices per step of the finders that tests rely on."""
PATIENCE_S = 600.0
"""Seconds to wait for a prior that another worker trains: it may have been killed."""


def trained_once(name: str, config, cohort, tmp_path_factory: pytest.TempPathFactory):
    """A prior trained by whichever worker of pytest-xdist asks first; the others wait for it and load it."""
    import toys
    from nisf.kinds.load import load_prior

    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, trained, failed = (base / f"{name}{ending}" for ending in ("", ".trained", ".failed"))
    try:
        folder.mkdir()
    except FileExistsError:
        end = time.monotonic() + PATIENCE_S
        while not trained.exists():
            if failed.exists() or time.monotonic() > end:
                pytest.fail(f"the training of {name} failed or hung in another worker")
            time.sleep(0.1)
        return load_prior(folder)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("nisf.networks.finder_training.BATCH", BATCH)  # also where `light` changes it
            toys.train_toy(folder, config, cohort, [])
    except BaseException:
        failed.touch()
        raise
    trained.touch()
    return load_prior(folder)


@pytest.fixture(scope="session")
def toy_prior(toy_cohort, tmp_path_factory):
    """A prior trained on the toy cohort for a few seconds."""
    import toys

    return trained_once("toy-prior", toys.CONFIG, toy_cohort, tmp_path_factory)


@pytest.fixture(scope="session")
def toy_image_prior(toy_cohort, tmp_path_factory):
    """An image-conditioned prior trained on the toy cohort for a few seconds."""
    import toys

    return trained_once("toy-image-prior", toys.IMAGE, toy_cohort, tmp_path_factory)


@pytest.fixture(scope="session")
def toy_fitted(toy_prior):
    """A subject that the toy prior has not seen, fitted."""
    import toys
    from nisf.prior.fit import fit

    return fit(toys.toy_case(99), toy_prior)
