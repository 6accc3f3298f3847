"""Lazy n-D images: named axes, physical scale, and planes cut along any spatial axis.

`open_volume` reads metadata only; `Volume.plane` reads the chunks of one plane and nothing else.
"""

from src_core.volumes.opening import open_volume
from src_core.volumes.plane import Plane
from src_core.volumes.volume import Volume

__all__ = ["Plane", "Volume", "open_volume"]
