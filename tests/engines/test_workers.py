"""Workers: the same files as one process writes, and a death costs one case."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace

import pytest

from engines.stuck import STAGE, Stuck
from engines.written import content, states
from nisf.engines import Begin, Workers
from nisf.errors import NisfError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals")


def begin_of(prior):
    return Begin(str(prior.folder), prior.digest)


def test_two_write_what_one_process_writes(files, tiny, work, in_process, tmp_path):
    alone = list(in_process.run(files, lambda *_: None))
    told = []
    shared = replace(work, folder=tmp_path / "shared")
    results = list(Workers(begin_of(tiny), shared, 2).run(files, lambda *what: told.append(what)))
    assert states(results) == states(alone) == ["written", "written", "written", "failed", "written"]
    errors = {result.case: result.error for _, result in alone}
    assert {result.case: result.error for _, result in results} == errors
    assert content(shared.folder) == content(work.folder)
    assert len(content(work.folder)) == 4 * 5 + 3 + 1
    assert {index for index, _ in told} == set(range(5))
    assert not list(shared.folder.glob(".*"))


def running():
    """The workers that run; other tests of this process may have left children of their own."""
    return [child for child in multiprocessing.active_children() if child.name == "nisf-worker"]


def test_a_worker_that_is_killed_costs_one_case(files, tiny, work):
    """With a draft and a lock of its own in the folder, which are removed."""
    left = []

    def kill(index, what):
        if what == STAGE:
            left.append((index, len(list(work.folder.glob(".*")))))
            (worker,) = running()
            os.kill(worker.pid, signal.SIGKILL)

    stuck = Stuck(**vars(work), case=files[1].name)
    results = list(Workers(begin_of(tiny), stuck, 1).run(files[:3], kill))
    assert left == [(1, 2)]
    assert states(results) == ["written", "failed", "written"]
    assert results[1][1].error.startswith("its worker was ended by SIGKILL (out of memory")
    assert not list(work.folder.glob(".*"))
    assert states(Workers(begin_of(tiny), work, 1).run(files[:3], lambda *_: None)) == [
        "kept",
        "written",
        "kept",
    ]


def test_who_stops_listening_stops_the_workers(files, tiny, work):
    run = Workers(begin_of(tiny), work, 1).run(files, lambda *_: None)
    assert next(run)[1].state == "written"
    assert len(running()) == 1
    run.close()
    assert not running()
    assert not list(work.folder.glob(".*"))


def test_a_prior_that_was_changed_meanwhile(files, tiny, work):
    begin = replace(begin_of(tiny), digest="0" * 16)
    with pytest.raises(NisfError, match=r"no worker could be started: .*changed while it was in use"):
        list(Workers(begin, work, 1).run(files, lambda *_: None))


@pytest.mark.slow
def test_workers_end_with_whoever_started_them(files, tiny, tmp_path):
    """Killed, it cannot stop them."""
    import subprocess
    import sys

    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    arguments = [str(tiny.folder), tiny.digest, str(files[0].paths()[0].parents[1]), str(tmp_path / "out")]
    with subprocess.Popen(
        [sys.executable, str(script), *arguments], stdout=subprocess.PIPE, text=True
    ) as driver:
        worker = int(driver.stdout.readline())
        driver.kill()
        driver.wait()
        end = time.monotonic() + 30
        while _alive(worker) and time.monotonic() < end:
            time.sleep(0.1)
        assert not _alive(worker)


DRIVER = """
import multiprocessing, sys
from pathlib import Path
from nisf.data.anatomy import load_anatomy
from nisf.engines import Begin, Work, Workers
from nisf.io.readers import open_cohort

if __name__ == "__main__":
    prior, digest, data, out = sys.argv[1:]
    cases = open_cohort(data, load_anatomy("cardiac-sax"), labels=False).cases
    for _ in Workers(Begin(prior, digest), Work(Path(out)), 1).run(cases, lambda *_: None):
        print(multiprocessing.active_children()[0].pid, flush=True)
"""


def _alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
