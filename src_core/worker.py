"""One thread that runs the network, most urgent work first. No Qt here."""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any

logger = logging.getLogger(__name__)


class Priority(IntEnum):
    """Lower runs first."""

    CLICK = 0
    ON_SCREEN = 1
    NEIGHBOUR = 2
    PROPAGATE = 3
    REST = 4


class Job:
    """Work that has been handed in.

    `cancel` keeps it from starting, or from taking its next step; what is done stays done.
    """

    def __init__(self, steps: Iterator[Any]) -> None:
        self.steps = steps
        self.cancelled = threading.Event()
        self.finished = threading.Event()

    def cancel(self) -> None:
        """Ask the job to stop."""
        self.cancelled.set()


class InferenceWorker:
    """Runs jobs one step at a time, so that a click gets in between two steps of a propagation.

    Parameters
    ----------
    deliver
        Called from the worker's thread as deliver(callback, *args); the default calls back at once. A window
        passes a function that gets the call onto its own thread.
    """

    def __init__(self, deliver: Callable[..., None] | None = None) -> None:
        self._deliver = deliver or (lambda callback, *args: callback(*args))
        self._queue: queue.PriorityQueue[tuple[int, int, Job | None, Any]] = queue.PriorityQueue()
        self._count = itertools.count()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="napari-sam inference", daemon=True)
        self._thread.start()

    def submit(
        self,
        work: Callable[[], Any],
        priority: Priority,
        done: Callable[[Any], None] | None = None,
        failed: Callable[[BaseException], None] | None = None,
    ) -> Job:
        """Run `work()` and deliver its result to `done`, or its error to `failed`."""

        def once() -> Iterator[Any]:
            yield work()

        return self.submit_steps(once(), priority, done, None, failed)

    def submit_steps(
        self,
        steps: Iterator[Any],
        priority: Priority,
        each: Callable[[Any], None] | None = None,
        finished: Callable[[], None] | None = None,
        failed: Callable[[BaseException], None] | None = None,
    ) -> Job:
        """Run a generator step by step; what it yields goes to `each`, its end to `finished`."""
        job = Job(steps)
        with self._lock:
            if self._stopping.is_set():
                _close(job)
            else:
                self._queue.put((priority, next(self._count), job, (priority, each, finished, failed)))
        return job

    def close(self, timeout: float = 10.0) -> None:
        """Finish the step under way, drop the rest and what is handed in later, and end the thread."""
        with self._lock:
            if not self._stopping.is_set():
                self._stopping.set()
                self._queue.put((-1, -1, None, None))
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)

    def idle(self) -> bool:
        """Say whether nothing waits or runs."""
        return self._queue.unfinished_tasks == 0

    def _run(self) -> None:
        while not self._stopping.is_set():
            _, _, job, how = self._queue.get()
            if job is None or self._stopping.is_set():
                _close(job)
            else:
                self._step(job, *how)
            # While the thread waits for more, it must not keep alive what the last job was about.
            del job, how
            self._queue.task_done()
        with contextlib.suppress(queue.Empty):
            while True:
                _close(self._queue.get_nowait()[2])
                self._queue.task_done()

    def _tell(self, callback: Callable[..., Any] | None, *args: Any) -> None:
        if callback is None:
            return
        try:
            self._deliver(callback, *args)
        except Exception:  # the thread has to outlive a receiver that fails or has gone
            logger.exception("a result of the inference thread could not be delivered")

    def _step(
        self,
        job: Job,
        priority: Priority,
        each: Callable[[Any], None] | None,
        finished: Callable[[], None] | None,
        failed: Callable[[BaseException], None] | None,
    ) -> None:
        try:
            if job.cancelled.is_set():
                close = getattr(job.steps, "close", None)
                if close is not None:
                    close()
                raise StopIteration
            result = next(job.steps)
        except StopIteration:
            job.finished.set()
            self._tell(finished)
        except BaseException as error:
            job.finished.set()
            self._tell(failed, error)
        else:
            self._tell(each, result)
            self._queue.put((priority, next(self._count), job, (priority, each, finished, failed)))


def _close(job: Job | None) -> None:
    """Drop a job: what a generator has to tidy up, it does now."""
    if job is None:
        return
    close = getattr(job.steps, "close", None)
    if close is not None:
        try:
            close()
        except Exception:
            logger.exception("dropped work could not be tidied up")
    job.finished.set()
