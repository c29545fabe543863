"""What Foveal raises: one class a kind, each also the built-in exception that fits."""

from foveal import _foveal


class Error(Exception):
    """Base of all. The text reads `[where] got X; need Y`."""


class InvalidArgumentError(Error, ValueError):
    """What was asked for can never work."""


class NotFoundError(Error, FileNotFoundError):
    """A file, tensor or name does not exist."""


class UnsupportedError(Error, NotImplementedError):
    """Well formed, but this model, device or build cannot do it."""


class CorruptFileError(Error):
    """A file contradicts itself or its format."""


class ContextLengthError(Error, ValueError):
    """The prompt does not fit the context or the cache."""


class OutOfMemoryError(Error, MemoryError):
    """Memory for weights, cache or scratch could not be had."""


class CancelledError(Error):
    """The request was cancelled by its owner."""


class IoError(Error, OSError):
    """The operating system refused to read or write."""


class InternalError(Error, RuntimeError):
    """A bug in Foveal."""


# In the order of ErrorKind, include/foveal/error.h.
_foveal.set_error_types([
    InvalidArgumentError, NotFoundError, UnsupportedError, CorruptFileError, ContextLengthError,
    OutOfMemoryError, CancelledError, IoError, InternalError,
])


def refuse(where, got, need):
    """Raises for what only Python knows about."""
    raise InvalidArgumentError(f"[{where}] got {got}; need {need}")
