"""One thread, most urgent first, and an end that leaves nothing behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from src_core.worker import InferenceWorker, Priority


@pytest.fixture
def worker() -> Iterator[InferenceWorker]:
    worker = InferenceWorker()
    yield worker
    worker.close()


class Gate:
    """Work that holds the thread until it is let go."""

    def __init__(self, worker: InferenceWorker) -> None:
        self.running, self.go = threading.Event(), threading.Event()
        self.job = worker.submit(self._work, Priority.CLICK)
        assert self.running.wait(5)

    def _work(self) -> None:
        self.running.set()
        self.go.wait(5)


def test_the_most_urgent_goes_first_and_equals_in_order(worker: InferenceWorker) -> None:
    gate, done = Gate(worker), []
    jobs = [
        worker.submit(lambda n=n: done.append(n), p)
        for n, p in [
            ("rest", Priority.REST),
            ("neighbour", Priority.NEIGHBOUR),
            ("click 1", Priority.CLICK),
            ("on screen", Priority.ON_SCREEN),
            ("click 2", Priority.CLICK),
        ]
    ]
    gate.go.set()
    assert all(j.finished.wait(5) for j in jobs)
    assert done == ["click 1", "click 2", "on screen", "neighbour", "rest"]


def test_a_click_gets_in_between_two_steps_of_a_propagation(worker: InferenceWorker) -> None:
    done: list[str] = []

    def steps() -> Iterator[int]:
        for k in range(5):
            done.append(f"step {k}")
            if k == 1:
                worker.submit(lambda: done.append("click"), Priority.CLICK)
            yield k

    assert worker.submit_steps(steps(), Priority.PROPAGATE).finished.wait(5)
    assert done == ["step 0", "step 1", "click", "step 2", "step 3", "step 4"]


def test_what_steps_yield_is_delivered_in_order_and_then_the_end(worker: InferenceWorker) -> None:
    told: list[object] = []
    job = worker.submit_steps(iter([1, 2, 3]), Priority.REST, told.append, lambda: told.append("end"))
    assert job.finished.wait(5)
    _until(lambda: told == [1, 2, 3, "end"])


def test_a_cancelled_job_takes_no_further_step_and_tidies_up(worker: InferenceWorker) -> None:
    taken, tidy = [], threading.Event()

    def steps() -> Iterator[int]:
        try:
            for k in range(1000):
                taken.append(k)
                job.cancel() if k == 2 else None
                yield k
        finally:
            tidy.set()

    gate = Gate(worker)
    job = worker.submit_steps(steps(), Priority.PROPAGATE)
    gate.go.set()
    assert job.finished.wait(5)
    assert taken == [0, 1, 2] and tidy.is_set()


def test_a_job_cancelled_before_its_turn_never_starts(worker: InferenceWorker) -> None:
    gate, done = Gate(worker), []
    job = worker.submit(lambda: done.append(1), Priority.CLICK)
    job.cancel()
    gate.go.set()
    assert job.finished.wait(5) and done == []


def test_errors_are_delivered_and_the_thread_goes_on(worker: InferenceWorker) -> None:
    errors: list[BaseException] = []

    def steps() -> Iterator[int]:
        yield 1
        raise ValueError("half-way")

    for job in (
        worker.submit(lambda: 1 / 0, Priority.CLICK, None, errors.append),
        worker.submit_steps(steps(), Priority.CLICK, None, None, errors.append),
        worker.submit(lambda: 1 / 0, Priority.CLICK),  # nobody listens
    ):
        assert job.finished.wait(5)
    assert worker.submit(lambda: None, Priority.CLICK).finished.wait(5)
    assert [type(e) for e in errors] == [ZeroDivisionError, ValueError]


def test_a_receiver_that_fails_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    def deliver(callback: object, *args: object) -> None:
        raise RuntimeError("the window has gone")

    worker = InferenceWorker(deliver)
    worker.submit(lambda: 1, Priority.CLICK, lambda _: None).finished.wait(5)
    assert worker.submit(lambda: 1, Priority.CLICK, lambda _: None).finished.wait(5)
    worker.close()
    assert "could not be delivered" in caplog.text


def test_closing_ends_the_thread_after_the_step_under_way_and_drops_the_rest() -> None:
    worker, done, tidy = InferenceWorker(), [], []

    def steps() -> Iterator[int]:
        try:
            while True:
                time.sleep(0.01)
                yield 0
        finally:
            tidy.append(True)

    gate = Gate(worker)
    going = worker.submit_steps(steps(), Priority.PROPAGATE)
    waiting = [worker.submit(lambda: done.append(1), Priority.REST) for _ in range(20)]
    gate.go.set()
    time.sleep(0.1)
    began = time.monotonic()
    worker.close()
    worker.close()
    assert time.monotonic() - began < 1
    assert not worker._thread.is_alive()
    assert done == [] and tidy == [True]
    assert going.finished.is_set() and all(j.finished.is_set() for j in waiting)
    assert worker.idle()
    late = worker.submit(lambda: done.append(1), Priority.CLICK)
    assert late.finished.is_set() and done == []


def test_closing_does_not_wait_longer_than_it_is_told() -> None:
    worker = InferenceWorker()
    gate = Gate(worker)
    began = time.monotonic()
    worker.close(timeout=0.05)
    assert time.monotonic() - began < 1 and worker._thread.is_alive()
    gate.go.set()
    worker.close()
    assert not worker._thread.is_alive()


def test_everything_runs_on_one_thread(worker: InferenceWorker) -> None:
    seen: set[int] = set()
    jobs = [worker.submit(lambda: seen.add(threading.get_ident()), p) for p in Priority for _ in range(3)]
    assert all(j.finished.wait(5) for j in jobs)
    assert len(seen) == 1 and threading.get_ident() not in seen


def _until(holds: object) -> None:
    end = time.monotonic() + 5
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.005)
