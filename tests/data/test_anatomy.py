import json
import re

import pytest

from nisf.data.anatomy import Anatomy, anatomy_names, load_anatomy
from nisf.errors import NisfError

OWN = {"name": "knee", "labels": ["background", "bone"], "colours": ["#000000", "#ffffff"]}


@pytest.mark.parametrize("name", anatomy_names())
def test_anatomies_of_the_package(name):
    anatomy = load_anatomy(name)
    assert anatomy.name == name
    assert len(set(anatomy.labels)) == len(anatomy.labels)
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in anatomy.colours)
    for numbers in anatomy.numbers.values():
        assert set(numbers.values()) <= set(anatomy.labels[1:])
        assert len(set(numbers.values())) == len(numbers)
        assert 0 not in numbers
    if anatomy.phases is not None:
        assert anatomy.phases["by"] in anatomy.labels


def test_numbers_of_the_heart():
    heart = load_anatomy("cardiac-sax")
    assert heart.reorder
    assert heart.labels == ("background", "LV blood pool", "LV myocardium", "RV blood pool")
    # The two best-known layouts number the ventricles the other way round.
    assert heart.numbers["acdc"][1] == heart.numbers["ukb"][3] == "RV blood pool"
    assert heart.numbers["acdc"][3] == heart.numbers["mnms"][1] == "LV blood pool"


def test_own_file(tmp_path):
    path = tmp_path / "knee.json"
    path.write_text(json.dumps({**OWN, "numbers": {"pairs": {"7": "bone"}}}))
    assert load_anatomy(path) == Anatomy(
        "knee", ("background", "bone"), ("#000000", "#ffffff"), numbers={"pairs": {7: "bone"}}
    )


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        json.dumps({"name": "knee"}),
        json.dumps({**OWN, "labels": 3}),
        json.dumps({**OWN, "labels": ["bone", "background"]}),
        json.dumps({**OWN, "labels": []}),
        json.dumps({**OWN, "colours": ["#000000"]}),
        json.dumps({**OWN, "numbers": {"pairs": {"one": "bone"}}}),
        json.dumps({**OWN, "numbers": [1]}),
    ],
)
def test_bad_files(tmp_path, text):
    path = tmp_path / "knee.json"
    path.write_text(text)
    with pytest.raises(NisfError, match=r"knee\.json"):
        load_anatomy(path)


def test_no_such_anatomy():
    with pytest.raises(NisfError, match="spleen: no such anatomy; give one of cardiac-sax"):
        load_anatomy("spleen")
