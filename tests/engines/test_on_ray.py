"""Ray for real: a cluster of three nodes on this machine, of which processes, a node and the driver die."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from engines.written import content, states
from nisf.engines import Begin
from nisf.engines.on_ray import OnRay
from nisf.errors import BadSettingError, NisfError

pytestmark = pytest.mark.slow
SMALL = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


def begin_of(prior):
    return Begin(str(prior.folder), prior.digest)


@pytest.fixture(scope="module")
def cluster():
    """Three nodes with a processor each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={**SMALL, "include_dashboard": False})
    for _ in range(2):
        found.add_node(**SMALL)
    yield found
    found.shutdown()


def pids_of_tasks():
    """Processes of Ray's workers that do a case now."""
    found = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in found.splitlines() if "ray::_task" in line]


def another_node(cluster):
    """One that is neither the head nor the driver's, which could not go on without it."""
    import ray

    ours = ray.get_runtime_context().get_node_id()
    return next(node for node in cluster.worker_nodes if node.node_id != ours)


def until(condition, seconds=500):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def test_the_same_bits_as_without_ray(cluster, files, tiny, work, in_process, tmp_path):
    alone = list(in_process.run(files, lambda *_: None))
    shared = replace(work, folder=tmp_path / "shared")
    shared.folder.mkdir()
    engine = OnRay(tiny, begin_of(tiny), shared, cluster.address)
    results = list(engine.run(files, lambda *_: None))
    assert states(results) == states(alone) == ["written", "written", "written", "failed", "written"]
    assert content(shared.folder) == content(work.folder)
    again = list(engine.run(files, lambda *_: None))
    assert states(again) == ["kept", "kept", "kept", "failed", "kept"]


def test_what_the_user_can_fix_is_told_as_without_ray(tiny, work):
    errors = pytest.importorskip("ray.exceptions")

    class Ray:
        exceptions = errors

        def get(self, cause):
            raise errors.RayTaskError("_task", "a traceback", cause)

    engine = OnRay(tiny, begin_of(tiny), work)
    found = engine._result(Ray(), NisfError("/out: not found on the node 10.0.0.7"), "anna")
    assert (found.case, found.state) == ("anna", "failed")
    assert found.error == "/out: not found on the node 10.0.0.7"
    assert engine._result(Ray(), ValueError("no heart"), "anna").error == "ValueError: no heart"


def test_a_worker_and_a_node_are_lost(cluster, files, tiny, work, in_process, tmp_path):
    list(in_process.run(files, lambda *_: None))
    shared = replace(work, folder=tmp_path / "shared")
    shared.folder.mkdir()
    cluster.add_node(**SMALL)
    run = OnRay(tiny, begin_of(tiny), shared, cluster.address).run(files, lambda *_: None)
    results = []
    for index, result in run:
        results.append((index, result))
        if len(results) == 1:
            for pid in pids_of_tasks():
                os.kill(pid, signal.SIGKILL)
            cluster.remove_node(another_node(cluster), allow_graceful=False)
    assert sorted(index for index, _ in results) == list(range(5))
    assert [result.case for _, result in sorted(results, key=lambda one: one[0]) if not result.done] == [
        files[3].name
    ]
    assert content(shared.folder) == content(work.folder)
    assert not list(shared.folder.glob(".*"))


def test_the_driver_is_killed_and_started_again(cluster, many, files, tiny, work, in_process, tmp_path):
    list(in_process.run(files, lambda *_: None))
    out = tmp_path / "shared"
    command = [
        sys.executable,
        "-m",
        "nisf",
        "segment",
        str(many),
        "-o",
        str(out),
        "--prior",
        str(tiny.folder),
    ]
    command += ["--steps", "1", "--engine", "ray", "--address", cluster.address]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        until(lambda: list(out.glob("*.run.json")) or driver.poll() is not None)
        driver.kill()
    until(lambda: not pids_of_tasks())
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("*_seg.nii.gz")}
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr  # of the image that is cut off
    assert "4 of 5 cases written" in done.stdout
    ours = {
        name: value for name, value in content(out).items() if not name.endswith(("csv", "measures.json"))
    }
    assert ours == {name: value for name, value in content(work.folder).items() if name in ours}
    assert done.stdout.count("done already") <= len(kept)
    assert (out / "measures.csv").read_text().count("phantom") == 4


def test_no_cluster_there(files, tiny, work):
    pytest.importorskip("ray")
    engine = OnRay(tiny, begin_of(tiny), work, "127.0.0.1:1")
    with pytest.raises(BadSettingError, match=r"no cluster at 127\.0\.0\.1:1"):
        list(engine.run(files, lambda *_: None))
