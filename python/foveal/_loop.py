"""Engine and asyncio: one descriptor an event loop says which requests have more. No thread, and the
engine never waits for the interpreter."""

import asyncio
import itertools
import weakref

from foveal import _foveal

_loops = weakref.WeakKeyDictionary()


class LoopSignal:
    """The requests that one event loop waits for."""

    def __init__(self, loop):
        self.signal = _foveal.Signal()
        self._numbers = itertools.count()
        self._events = weakref.WeakValueDictionary()
        loop.add_reader(self.signal.fileno(), self._wake)

    def watch(self, request):
        """An event that is set whenever `request` may have more."""
        number, event = next(self._numbers), asyncio.Event()
        self._events[number] = event
        request.attach(self.signal, number)
        return event

    def _wake(self):
        for number in self.signal.take():
            event = self._events.get(number)
            if event is not None:
                event.set()


def of_running_loop():
    loop = asyncio.get_running_loop()
    if loop not in _loops:
        _loops[loop] = LoopSignal(loop)
    return _loops[loop]
