import pytest

from nisf.data.anatomy import load_anatomy
from nisf.paper.study import Study
from nisf.phantom import Scanner, write_cohort
from tiny_budget import TINY

SMALL = Scanner(matrix=(36, 36), spacing_mm=5.0, thickness_mm=16.0, gap_mm=4.0, frames=2)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    """Six phantoms on disk, two frames each."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_cohort(folder, 6, seed=5, scanner=SMALL)
    return folder


@pytest.fixture(scope="session")
def study(phantoms, tmp_path_factory):
    """A study of them whose priors take seconds; shared by all tests, which only add to it."""
    said = []
    out = tmp_path_factory.mktemp("study")
    made = Study(phantoms, out, load_anatomy("cardiac-sax"), TINY, say=said.append)
    made.said = said
    return made
