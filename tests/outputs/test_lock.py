"""A lock is one for all threads of a process."""

import threading
import time

import pytest

from nisf.outputs import lock
from nisf.outputs.lock import locked, remove_stale


@pytest.fixture
def slowly(monkeypatch):
    """Another thread comes between taking a lock and counting it, if it can."""
    acquire = lock._acquired

    def acquired(path):
        handle = acquire(path)
        time.sleep(0.02)
        return handle

    monkeypatch.setattr(lock, "_acquired", acquired)


def at_once(*tasks):
    """Run tasks in threads that begin together; their errors."""
    barrier, errors = threading.Barrier(len(tasks)), []

    def run(task):
        barrier.wait()
        try:
            task()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


@pytest.mark.usefixtures("slowly")
def test_threads_that_enter_at_once_share_the_lock(tmp_path):
    def enter():
        with locked(tmp_path, "a"):
            assert list(tmp_path.iterdir())
            time.sleep(0.005)

    for _ in range(5):
        assert at_once(enter, enter, enter) == []
        assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("slowly")
def test_removing_stale_locks_disturbs_no_thread(tmp_path):
    def enter():
        with locked(tmp_path, "a"):
            pass

    for _ in range(5):
        (tmp_path / f".a{lock.ENDING}").touch()
        assert at_once(enter, lambda: remove_stale(tmp_path)) == []
