"""Progress of a batch on a terminal; nothing elsewhere."""

import sys
import time

_WIDTH = 30


class _Bar:
    """For where tqdm is not installed."""

    def __init__(self, total):
        self._total, self._done = total, 0
        self._start = time.monotonic()
        self._show()

    def update(self, count):
        self._done += count
        self._show()

    def _show(self):
        filled = _WIDTH * self._done // max(self._total, 1)
        rate = self._done / max(time.monotonic() - self._start, 1e-9)
        bar = "=" * filled + " " * (_WIDTH - filled)
        sys.stderr.write(f"\rprompts [{bar}] {self._done}/{self._total} {rate:.1f}/s")
        sys.stderr.flush()

    def close(self):
        sys.stderr.write("\n")


class _Silent:
    def update(self, count):
        pass

    def close(self):
        pass


def bar(total, wanted):
    """A bar of `total` prompts, if one is wanted and there is somebody to see it."""
    if not wanted or total == 0 or sys.stderr is None or not sys.stderr.isatty():
        return _Silent()
    try:
        from tqdm import tqdm
    except ImportError:
        return _Bar(total)
    return tqdm(total=total, desc="prompts")
