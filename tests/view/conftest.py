from contextlib import contextmanager
from dataclasses import replace

import pytest

import toys
from nisf.view.library import Entry, Library
from nisf.view.viewed import Viewed


@pytest.fixture(scope="session")
def toy_seen(toy_image_prior):
    """A toy subject that an image-conditioned prior sees, islands removed, and its case."""
    from nisf.prior.fit import fit

    case = toys.toy_case(99)
    return replace(fit(case, toy_image_prior, find="whole"), islands="remove"), case


@pytest.fixture(scope="module")
def library(toy_seen):
    """One case, open."""

    def opened():
        yield Viewed(*toy_seen)

    library = Library([Entry("toy99", opened)])
    for _ in library.opening(0):
        pass
    return library


@contextmanager
def _serving(library):
    """A viewer that is served on a free port, in a thread: its address and token."""
    pytest.importorskip("uvicorn", reason="needs nisf[view]: starlette and uvicorn")
    from nisf.view.server import serve_in_thread

    host, token, end = serve_in_thread(library)
    try:
        yield host, token
    finally:
        end()


@pytest.fixture(scope="session")
def serving():
    return _serving


@pytest.fixture(scope="module")
def served(library):
    """A viewer of the library: its address and token."""
    with _serving(library) as found:
        yield found
