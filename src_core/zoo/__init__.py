"""Model weights: which exist, where they are, how they get here and into a network.

>>> from src_core import zoo
>>> [info.name for info in zoo.models()]  # doctest: +ELLIPSIS
['nano', 'vit_t', 'vit_b', ...]
>>> sam = zoo.load("nano")  # doctest: +SKIP
"""

from src_core.zoo.checkpoint import fingerprint, read_state_dict, recognise
from src_core.zoo.downloads import DownloadCancelled, download
from src_core.zoo.loading import LoadedModel, choose_device, load, load_model
from src_core.zoo.registry import ModelInfo, models, models_folder, named

__all__ = [
    "DownloadCancelled",
    "LoadedModel",
    "ModelInfo",
    "choose_device",
    "download",
    "fingerprint",
    "load",
    "load_model",
    "models",
    "models_folder",
    "named",
    "read_state_dict",
    "recognise",
]
