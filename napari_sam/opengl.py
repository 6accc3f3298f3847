"""A layer that is taken away must not take the whole program with it."""

from __future__ import annotations

from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QApplication
from vispy.gloo import gl

MOST_ARRAYS = 16
"""Every OpenGL has so many vertex arrays at least, and vispy's visuals need fewer."""


def forget_arrays() -> None:
    """Let the canvases read no vertex arrays until they draw again.

    vispy leaves the arrays of what it drew last switched on. When layers have gone, and their buffers with them,
    the next thing that is drawn makes OpenGL read from nowhere: a `GLError`, or the end of the process.
    """
    for window in QApplication.topLevelWidgets():
        for canvas in window.findChildren(QOpenGLWidget):
            if not canvas.isValid():
                continue  # it has never been shown
            canvas.makeCurrent()
            for number in range(MOST_ARRAYS):
                gl.glDisableVertexAttribArray(number)
            canvas.doneCurrent()
