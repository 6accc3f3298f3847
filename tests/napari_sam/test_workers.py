"""Calls on the window's thread: in order, once a turn, with room for the window between them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from napari_sam import workers
from napari_sam.workers import MainThread, Once, Throttle


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        QApplication.processEvents()


def test_calls_from_another_thread_come_in_order_and_none_after_the_end(qapp: QApplication) -> None:
    main, got = MainThread(), []
    thread = threading.Thread(target=lambda: [main(got.append, k) for k in range(200)])
    thread.start()
    thread.join()
    assert not got and not main.idle()
    _until(main.idle)
    assert got == list(range(200))
    main(got.append, 200)
    main.close()
    QApplication.processEvents()
    QApplication.processEvents()
    assert len(got) == 200


def test_the_window_gets_its_turn_between_calls_that_take_long(qapp: QApplication) -> None:
    main, order = MainThread(), []

    def long(number: int) -> None:
        time.sleep(2 * workers.TURN_S)
        order.append(number)

    timer = QTimer()
    timer.timeout.connect(lambda: order.append(-1))
    timer.start(0)
    for number in range(3):
        main(long, number)
    _until(main.idle)
    timer.stop()
    between = order[order.index(0) : order.index(2)]
    assert between.count(-1) >= 2, "a timer, as painting would, came in between each two"


def test_an_error_in_a_call_is_told_and_the_next_call_is_made(qapp: QApplication, warned: list[str]) -> None:
    main, got = MainThread(), []
    main(lambda: 1 / 0)
    main(got.append, 1)
    _until(main.idle)
    assert got == [1] and len(warned) == 1 and "ZeroDivisionError" in warned[0]


def test_what_is_wanted_often_is_called_once_a_turn(qapp: QApplication) -> None:
    main, got = MainThread(), []
    soon = Once(main, lambda: got.append(len(got)))
    for _ in range(50):
        soon()
    assert not got
    _until(main.idle)
    assert got == [0]
    soon()
    _until(main.idle)
    assert got == [0, 1], "and again when it is wanted again"


def test_a_throttle_never_calls_at_once_and_never_loses_the_last_call(qapp: QApplication) -> None:
    got: list[int] = []
    throttle = Throttle(lambda: got.append(1), 20)
    throttle()
    assert not got
    _until(lambda: len(got) == 1)
    for _ in range(5):
        throttle()
    _until(lambda: len(got) == 2)
    throttle()
    throttle.close()
    end = time.monotonic() + 0.05
    _until(lambda: time.monotonic() > end)
    assert len(got) == 2


def test_two_throttles_that_are_due_together_leave_the_window_its_turn(qapp: QApplication) -> None:
    order: list[str] = []
    timer = QTimer()
    timer.timeout.connect(lambda: order.append("window"))
    timer.start(0)
    first, second = (Throttle(lambda name=name: order.append(name), 0) for name in ("first", "second"))
    first()
    second()
    _until(lambda: {"first", "second"} <= set(order))
    timer.stop()
    assert "window" in order[order.index("first") : order.index("second")]
