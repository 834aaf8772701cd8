import queue
import threading
import time

from nisf.errors import BadSettingError
from nisf.view.worker import Ended, Failed, Step, Urgency, Worker


def gathered(answers):
    out = []
    while not isinstance(answer := answers.get(timeout=10), Ended):
        out.append(answer)
    return out, answer


def test_a_newer_question_takes_the_place_of_an_older_one():
    old, new, begun, go = queue.Queue(), queue.Queue(), threading.Event(), threading.Event()

    def slow():
        begun.set()
        go.wait(10)
        yield "old"
        raise AssertionError("went on although nobody wants it")

    with Worker() as worker:
        worker.submit("plane a", 1, slow(), old.put)
        assert begun.wait(10)
        worker.submit("plane a", 1, iter(["new"]), new.put)
        go.set()
        assert gathered(new) == (["new"], Ended.DONE)
    assert gathered(old) == ([], Ended.DROPPED)


def test_it_stops_at_once_without_jobs():
    worker = Worker()
    worker.start()
    began = time.monotonic()
    worker.stop()
    assert not worker._thread.is_alive()
    assert time.monotonic() - began < 5


def test_what_is_dropped_is_closed_in_the_workers_thread():
    closed, begun = queue.Queue(), queue.Queue()

    def endless(name):
        try:
            while True:
                begun.put(name)
                yield Step.WORKED
        finally:
            closed.put((name, threading.current_thread().name))

    with Worker() as worker:
        first = worker.submit("first", 1, endless("first"), lambda _: None)
        assert begun.get(timeout=10) == "first"
        worker.drop(first)
        assert closed.get(timeout=10) == ("first", "nisf-view")
        for name in ("second", "third"):
            worker.submit("same", 1, endless(name), lambda _: None)
            while begun.get(timeout=10) != name:
                pass
        assert closed.get(timeout=10) == ("second", "nisf-view")
    assert closed.get_nowait() == ("third", "nisf-view")


def test_urgent_jobs_come_first_and_may_change_their_mind():
    order, done, go = [], queue.Queue(), threading.Event()

    def gate():
        go.wait(10)
        yield Step.WORKED

    def two(name):
        order.append(f"{name} coarse")
        yield Urgency(3)
        order.append(f"{name} sharp")
        yield Step.WORKED

    with Worker() as worker:
        worker.submit("gate", 0, gate(), lambda _: None)
        for name in "ab":
            worker.submit(name, 2, two(name), done.put)
        go.set()
        for _ in "ab":
            gathered(done)
    assert order == ["a coarse", "b coarse", "a sharp", "b sharp"]


def test_a_job_waits_until_another_has_gone_on():
    ready, answers = [], queue.Queue()

    def waiting():
        while not ready:
            yield Step.WAITS
        yield "there"

    def working():
        yield Step.WORKED
        ready.append(True)
        yield Step.WORKED

    with Worker() as worker:
        worker.submit("wants", 0, waiting(), answers.put)
        worker.submit("makes", 9, working(), lambda _: None)
        assert gathered(answers) == (["there"], Ended.DONE)


def test_errors_are_sentences_and_end_one_question_only():
    answers = queue.Queue()

    def fails(error):
        raise error
        yield

    with Worker() as worker:
        worker.submit("a", 0, fails(BadSettingError("time 2: give less")), answers.put)
        assert gathered(answers) == ([Failed("time 2: give less")], Ended.DONE)
        worker.submit("a", 0, fails(KeyError("x")), answers.put)
        assert gathered(answers)[0][0].sentence.startswith("KeyError")
        worker.submit("a", 0, iter(["fine"]), answers.put)
        assert gathered(answers) == (["fine"], Ended.DONE)


def test_jobs_of_a_stopped_worker_are_dropped():
    def waiting():
        while True:
            yield Step.WAITS

    before, after = queue.Queue(), queue.Queue()
    with Worker() as worker:
        worker.submit("a", 1, waiting(), before.put)
    worker.submit("b", 1, iter(["too late"]), after.put)
    for answers in (before, after):
        assert gathered(answers) == ([], Ended.DROPPED)
        assert answers.empty()


def test_a_dropped_job_is_not_answered():
    answers, go = queue.Queue(), threading.Event()

    def gate():
        go.wait(10)
        yield Step.WORKED

    with Worker() as worker:
        worker.submit("gate", 0, gate(), lambda _: None)
        job = worker.submit("a", 1, iter(["unwanted"]), answers.put)
        worker.drop(job)
        go.set()
        worker.submit("b", 1, iter([]), answers.put)
        assert gathered(answers) == ([], Ended.DONE)
    assert answers.empty()
