import json
import re

import numpy as np
import pytest

import toys
from nisf.data.anatomy import Anatomy, Code, anatomy_names, from_json, load_anatomy, to_json
from nisf.errors import BadFileError, BadSettingError
from nisf.io.phases import phases_by_volume

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
    ("text", "said"),
    [
        ("not json", r"cannot be read as JSON"),
        ("[]", "not an anatomy; give an object with 'name', 'labels' and 'colours'"),
        (json.dumps({"name": "knee"}), "the entry 'labels' is missing; give a list of names"),
        (json.dumps({**OWN, "name": 7}), "the entry 'name' is 7; give the anatomy's name"),
        (json.dumps({**OWN, "labels": 3}), "the entry 'labels' is 3; give a list of names"),
        (json.dumps({**OWN, "labels": ["bone", "background"]}), "'labels' must start with 'background'"),
        (json.dumps({**OWN, "labels": []}), "'labels' must start with 'background'"),
        (json.dumps({**OWN, "colours": ["#000000"]}), "'labels' must start .* have one entry each"),
        (
            json.dumps({**OWN, "labels": ["background", "a", "a"], "colours": ["#000000"] * 3}),
            "3 'labels'; give 2 to 128 different names",
        ),
        (json.dumps({**OWN, "labels": ["background"], "colours": ["#000000"]}), "1 'labels'; give 2 to 128"),
        (
            json.dumps(
                {**OWN, "labels": ["background", *map(str, range(128))], "colours": ["#000000"] * 129}
            ),
            "129 'labels'; give 2 to 128",
        ),
        (json.dumps({**OWN, "colours": [0, 1]}), r"the entry 'colours' is \[0, 1\]; give a list of colours"),
        (json.dumps({**OWN, "colours": ["#000000", "red"]}), "the colour 'red'; write it as #rrggbb"),
        (json.dumps({**OWN, "phases": ["bone"]}), r"the entry 'phases' is \['bone'\]; give null, or"),
        (json.dumps({**OWN, "numbers": {"pairs": {"one": "bone"}}}), "the entry 'numbers' is .*'one'"),
        (json.dumps({**OWN, "numbers": {"pairs": {"1": "bones"}}}), "number 1 of pairs is 'bones', which"),
        (json.dumps({**OWN, "numbers": {"pairs": {"0": "bone"}}}), "number 0 of pairs is 'bone', but can"),
        ('{"name": "knee", "name": "hip"}', "cannot be read as JSON .the entry 'name' is there twice"),
        (json.dumps({**OWN, "reorder": "false"}), "the entry 'reorder' is 'false'; give true or false"),
        (json.dumps({**OWN, "oriantation": "RAS"}), "the entry 'oriantation' does not exist; entries are"),
        (
            json.dumps({**OWN, "phases": {"by": "rib", "largest": "ED", "smallest": "ES"}}),
            "'phases' needs a structure as 'by'",
        ),
        (json.dumps({**OWN, "phases": {"by": "bone", "largest": "ED"}}), "'phases' needs a structure"),
        (json.dumps({**OWN, "numbers": [1]}), r"the entry 'numbers' is \[1\]; give the numbers of each"),
        (json.dumps({**OWN, "views": {"4ch": {"axis": "bone"}}}), "the entry 'views' is .*; give an object"),
        (json.dumps({**OWN, "views": {"4ch": {"axis": "bone", "towards": "x"}}}), "view 4ch uses 'x'"),
        (json.dumps({**OWN, "codes": {"bone": "12"}}), "the entry 'codes' is .*; give SNOMED CT codes"),
        (json.dumps({**OWN, "codes": {"bone": {"value": "T-1", "meaning": "Bone"}}}), "the entry 'codes' is"),
        (json.dumps({**OWN, "codes": {"rib": {"value": "1", "meaning": "Rib"}}}), "'codes' uses 'rib'"),
    ],
)
def test_bad_files(tmp_path, text, said):
    path = tmp_path / "knee.json"
    path.write_text(text)
    with pytest.raises(BadFileError, match=rf"knee\.json: {said}"):
        load_anatomy(path)


def test_phases_without_names_and_a_comment(tmp_path):
    path = tmp_path / "knee.json"
    path.write_text(json.dumps({**OWN, "phases": {"by": "bone"}, "_comment": "bent and straight"}))
    anatomy = load_anatomy(path)
    assert anatomy.phase_names == ()
    assert phases_by_volume(np.ones((2, 2, 1, 3), dtype=np.int8), anatomy) == {}


def test_no_such_anatomy():
    with pytest.raises(BadSettingError, match="spleen: no such anatomy; give one of cardiac-sax") as caught:
        load_anatomy("spleen")
    assert caught.value.options == ("anatomy",)


def test_shown():
    assert repr(load_anatomy("cardiac-sax")) == (
        "Anatomy('cardiac-sax', 4 labels: background, LV blood pool, LV myocardium, RV blood pool)"
    )
    many = Anatomy("ribs", ("background", *(f"rib {k}" for k in range(24))), ("#000000",) * 25)
    assert repr(many) == "Anatomy('ribs', 25 labels: background, rib 0, rib 1, ...)"


@pytest.mark.parametrize("name", anatomy_names())
def test_shown_in_one_line(name):
    assert toys.shown(load_anatomy(name)).startswith(f"Anatomy('{name}', ")


@pytest.mark.parametrize("name", anatomy_names())
def test_codes_of_the_package_survive_json(name):
    anatomy = load_anatomy(name)
    assert set(anatomy.codes) == set(anatomy.labels[1:])
    assert from_json(json.loads(json.dumps(to_json(anatomy))), "here") == anatomy


def test_anatomies_saved_before_there_were_codes_have_none():
    before = to_json(load_anatomy("cardiac-sax"))
    del before["codes"]
    assert from_json(before, "here").codes == {}


def test_a_category_of_its_own():
    tissue = {"value": "85756007", "meaning": "Tissue"}
    data = {**OWN, "codes": {"bone": {"value": "272673000", "meaning": "Bone", "category": tissue}}}
    assert from_json(data, "here").codes == {"bone": Code("272673000", "Bone", ("85756007", "Tissue"))}
