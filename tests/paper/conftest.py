import pytest

from nisf.data.anatomy import load_anatomy
from nisf.paper.study import Study
from nisf.phantom import Scanner, write_cohort
from tiny_budget import TINY


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    """Six phantoms on disk, three frames each."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_cohort(folder, 6, seed=5, scanner=Scanner(matrix=(40, 40), spacing_mm=4.5, frames=3))
    return folder


@pytest.fixture(scope="session")
def study(phantoms, tmp_path_factory):
    """A study of them whose priors take seconds; shared by all tests, which only add to it."""
    said = []
    out = tmp_path_factory.mktemp("study")
    made = Study(phantoms, out, load_anatomy("cardiac-sax"), TINY, say=said.append)
    made.said = said
    return made
