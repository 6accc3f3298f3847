"""The errors the library raises on purpose, as one small tree.

Every message says what was given, what was expected and what to do about it.
"""


class SamError(Exception):
    """Anything this library reports to its user."""


class VolumeError(SamError, ValueError):
    """An image, a label volume or their metadata cannot be used as given."""


class PromptError(SamError, ValueError):
    """A point, box, mask or object id is not valid for its plane."""


class CheckpointError(SamError, ValueError):
    """Model weights are missing, damaged or belong to another network."""


class CacheError(SamError, OSError):
    """The embedding store cannot be read or written."""


class SessionError(SamError, RuntimeError):
    """The session, its journal or its output is in a state that forbids the operation."""
