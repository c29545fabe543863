"""python -m foveal: the version."""

from foveal import __version__

print(f"foveal {__version__}")
