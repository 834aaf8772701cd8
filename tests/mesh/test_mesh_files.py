"""Files as other programs find them: triangles, normals, and in what coordinates they are."""

import base64
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from nisf.cli import main
from nisf.data.case import Stack
from nisf.data.geometry import Affine, Grid, cycle_times
from nisf.data.region import Region
from nisf.errors import BadSettingError
from nisf.mesh.files import WRITERS, names_of, write_series, write_surface
from nisf.mesh.surface import Surface
from true_subjects import true_subject

trimesh = pytest.importorskip("trimesh")

TETRAHEDRON = Surface(
    "lump",
    np.array([[10.5, 20, -30], [11, 20, -30], [10, 21.25, -30], [10, 20, -29]]),
    np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]),
    0.25,
)


@pytest.mark.parametrize("ending", [".stl", ".ply", ".obj"])
@pytest.mark.parametrize("space", ["RAS", "LPS"])
def test_as_trimesh_reads_them(tmp_path, ending, space):
    path = tmp_path / f"lump{ending}"
    write_surface(path, TETRAHEDRON, space=space)
    assert f"SPACE={space}".encode() in path.read_bytes()[:200]
    read = trimesh.load(path)
    turn = np.array([1, 1, 1] if space == "RAS" else [-1, -1, 1])
    np.testing.assert_allclose(read.bounds, np.sort(TETRAHEDRON.vertices * turn, axis=0)[[0, -1]])
    assert read.is_watertight
    assert read.volume / 1000 == pytest.approx(TETRAHEDRON.volume_ml, rel=1e-4)
    if ending != ".stl":
        close = (read.vertices[:, None] == TETRAHEDRON.vertices * turn).all(2).argmax(1)
        np.testing.assert_allclose(read.vertex_normals, TETRAHEDRON.normals[close] * turn, atol=1e-4)


def test_stl_is_binary(tmp_path):
    write_surface(tmp_path / "lump.stl", TETRAHEDRON)
    data = (tmp_path / "lump.stl").read_bytes()
    assert len(data) == 84 + 50 * 4
    assert not data.startswith(b"solid")
    assert int.from_bytes(data[80:84], "little") == 4


def test_vtp_as_its_text_says(tmp_path):
    surface = replace(TETRAHEDRON, time=np.float64(0.25))  # as from the times of a grid
    write_surface(tmp_path / "lump.vtp", surface, space="LPS")
    text = (tmp_path / "lump.vtp").read_text()
    letters = re.search(r'Name="SPACE"[^>]*>([\d ]+)<', text)[1]
    assert bytes(int(n) for n in letters.split()) == b"LPS\0"
    assert re.search(r'Name="TimeValue"[^>]*>0.25<', text)
    points, faces = (
        np.frombuffer(base64.b64decode(re.search(rf'Name="{name}"[^>]*>([^<]+)<', text)[1])[8:], kind)
        for name, kind in (("Points", "<f4"), ("connectivity", "<i8"))
    )
    np.testing.assert_allclose(points.reshape(-1, 3), TETRAHEDRON.vertices * [-1, -1, 1])
    np.testing.assert_array_equal(faces.reshape(-1, 3), TETRAHEDRON.faces)


def test_vtp_as_vtk_reads_it(tmp_path):
    pyvista = pytest.importorskip("pyvista")
    write_surface(tmp_path / "lump.vtp", TETRAHEDRON)
    read = pyvista.read(tmp_path / "lump.vtp")
    np.testing.assert_allclose(read.points, TETRAHEDRON.vertices)
    np.testing.assert_array_equal(read.regular_faces, TETRAHEDRON.faces)
    np.testing.assert_allclose(read.point_data["Normals"], TETRAHEDRON.normals, atol=1e-6)
    assert read.field_data["SPACE"] == ["RAS"]
    assert read.field_data["TimeValue"] == [0.25]
    assert read.is_manifold


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(BadSettingError, match=r"name the mesh \.stl, \.ply, \.obj, \.vtp"):
        write_surface(tmp_path / "lump.wrl", TETRAHEDRON)


def test_names():
    assert names_of("heart", ".stl", ["lv"], 1) == [["heart.stl"]]
    assert names_of("heart", ".stl", ["lv", "rv"], 1) == [["heart_lv.stl"], ["heart_rv.stl"]]
    assert names_of("heart", ".ply", ["lv"], 3)[0] == ["heart_t00.ply", "heart_t01.ply", "heart_t02.ply"]
    assert names_of("heart", ".ply", ["lv"], 101)[0][99:] == ["heart_t099.ply", "heart_t100.ply"]
    assert names_of("heart", ".ply", ["lv"], 11)[0][9:] == ["heart_t09.ply", "heart_t10.ply"]


def test_list_for_paraview(tmp_path):
    write_series(tmp_path / "a.vtp.series", {0.0: tmp_path / "a_t0.vtp", 0.5: tmp_path / "a_t1.vtp"})
    files = json.loads((tmp_path / "a.vtp.series").read_text())["files"]
    assert files == [{"name": "a_t0.vtp", "time": 0.0}, {"name": "a_t1.vtp", "time": 0.5}]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "x.wrl"], f"name the output {', '.join(WRITERS)}"),
        (["-o", "x.stl", "--frames", "0"], "--frames 0: give a number of at least 1"),
        (["-o", "x.stl", "--frames", "2", "--time", "0.5"], "--frames and --time: give one of them"),
        (["-o", "x.stl", "--structures", "a,,b"], "give different names separated by commas"),
        (["-o", "x.stl", "--structures", "spleen"], "spleen: no such structure"),
        (["-o", "x.stl", "--spacing", "-1"], "give a positive number"),
    ],
)
def test_wrong_options(toy_fitted_file, words, said, capsys):
    assert main(["mesh", str(toy_fitted_file), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_structure_has_the_same_name_at_all_times(tmp_path, monkeypatch):
    """Also where it is the only one that is left."""

    def label_at(world, time):
        ball = np.linalg.norm(world, axis=1) < 20
        return np.where(ball, 3 if time > 0.2 else np.where(world[:, 0] > 0, 1, 3), 0)

    grid = Grid((41, 41, 9), Affine.scaling([3.0, 3.0, 10.0], [-60.0, -60.0, -40.0]), cycle_times(2))
    subject = true_subject(label_at, Region(Affine(np.eye(4)), np.full(3, 40.0)), Stack("sa", grid))
    monkeypatch.setattr("nisf.kinds.load.read_subject", lambda *_: subject)
    command = ["mesh", "x.nisf", "-o", str(tmp_path / "x.stl"), "--frames", "2", "--spacing", "5"]
    assert main(command) == 0
    assert {path.name for path in tmp_path.glob("*.stl")} == {
        "x_lv-blood-pool_t00.stl",
        "x_lv-epicardium_t00.stl",
        "x_rv-blood-pool_t00.stl",
        "x_rv-blood-pool_t01.stl",
    }


@pytest.fixture(scope="module")
def toy_fitted_file(toy_fitted, tmp_path_factory):
    from nisf.io.subject_file import write_subject

    path = tmp_path_factory.mktemp("mesh") / "toy.nisf"
    write_subject(path, toy_fitted)
    return path


def test_the_command(toy_fitted_file, tmp_path, capsys):
    pytest.importorskip("skimage")
    ask = ["mesh", str(toy_fitted_file), "-o", str(tmp_path / "toy.vtp"), "--spacing", "4", "--frames", "2"]
    assert main([*ask, "--structures", "blood,muscle"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "run.json",
        "toy_blood.vtp.series",
        "toy_blood_t00.vtp",
        "toy_blood_t01.vtp",
        "toy_muscle.vtp.series",
        "toy_muscle_t00.vtp",
        "toy_muscle_t01.vtp",
    ]
    assert re.search(r"toy_blood_t00.vtp: \d+\.\d mL, \d+\.\d cm2, \d+ triangles\n", capsys.readouterr().out)
    ask[3] = str(tmp_path / "one.stl")
    assert main([*ask[:6], "--structures", "blood"]) == 0
    assert (tmp_path / "one.stl").is_file()


def test_files_of_the_user_stay(toy_fitted_file, tmp_path, capsys):
    mine = tmp_path / "toy_blood.stl"
    mine.write_bytes(b"mine")
    command = ["mesh", str(toy_fitted_file), "-o", str(tmp_path / "toy.stl"), "--structures", "blood,muscle"]
    assert main([*command, "--spacing", "4"]) == 2
    assert "toy_blood.stl: was not written by nisf" in capsys.readouterr().err
    assert mine.read_bytes() == b"mine"
    assert main([*command, "--spacing", "4", "--overwrite"]) == 0
    sizes = {path.name: path.stat().st_size for path in tmp_path.glob("*.stl")}
    assert sizes.keys() == {"toy_blood.stl", "toy_muscle.stl"}
    # Another structure of the same name later: what was written before stays, and ours are replaced unasked.
    assert (
        main(["mesh", str(toy_fitted_file), "-o", str(tmp_path / "toy_blood.stl"), "--structures", "blood"])
        == 0
    )
    assert (tmp_path / "toy_muscle.stl").stat().st_size == sizes["toy_muscle.stl"]
