"""A request that was submitted and not waited for."""

import asyncio
import threading
import time

from foveal import _foveal, _loop

_SLICE_S = 0.25


class GenerationResult:
    """Awaitable, iterable with `for` and `async for`, or waited for with `result`. With streaming
    each item is the RequestOutput so far, otherwise there is one item, the last."""

    def __init__(self, request, assembler, streaming=False):
        self._request = request
        self._assembler = assembler
        self._streaming = streaming
        self._lock = threading.Lock()
        self._error = None
        self._done = False
        self._told = False  # the iteration has had its last item
        self._signal = None
        self._event = None
        self._loop = None

    @property
    def request_id(self):
        return self._assembler.output.request_id

    @property
    def finished(self):
        self._pump()
        return self._done

    def abort(self):
        """Ends the request soon; its finish_reason is then "cancelled"."""
        self._request.cancel()

    def _pump(self):
        """Takes what there is. True when something was added."""
        with self._lock:
            if self._done:
                return False
            deltas = self._request.poll()
            self._assembler.add(deltas)
            if self._request.ended():
                try:
                    self._assembler.finish(self._request.result())
                except Exception as error:
                    self._error = error
                self._done = True
            return bool(deltas)

    def _output(self):
        if self._error is not None:
            raise self._error
        return self._assembler.snapshot()

    def settle(self):
        """Waits for the end, whatever it is: the engine is then no longer needed. Leaves the signal
        to whoever waits on it, and wakes a task that this call kept from seeing the end."""
        while not self.finished:
            time.sleep(0.002)
        if self._event is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._event.set)

    # --- waiting in a thread ---

    def attach(self, signal, number):
        """From now on `signal` tells, under this number, when there is more."""
        self._signal, self._event = signal, None
        self._request.attach(signal, number)

    def _wait(self, last_only, timeout=None):
        try:
            deadline = None if timeout is None else time.monotonic() + timeout
            if not self._done and self._signal is None:
                self.attach(_foveal.Signal(), 0)
            while True:
                added = self._pump()
                if self._done or (added and not last_only):
                    return self._output()
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(f"[result] got no end within {timeout} s; need more time")
                # Bounded: another thread that waits here too may have taken what told of the end.
                self._signal.wait(_SLICE_S if left is None else min(left, _SLICE_S))
        except Exception:  # the request's own error, or the deadline: it goes on
            raise
        except BaseException:  # Ctrl-C, wherever in here it is seen: nobody is going to read the rest
            self.abort()
            raise

    def result(self, timeout=None):
        """Waits for the end. TimeoutError after so many seconds; the request then goes on."""
        return self._wait(last_only=True, timeout=timeout)

    def _next(self):
        output = self._wait(last_only=not self._streaming)
        self._told = self._done
        return output

    def __iter__(self):
        # A generator, because Ctrl-C may also be seen on the way into a function, before its `try`.
        try:
            while not self._told:
                yield self._next()
        except (Exception, GeneratorExit):  # an error, or a loop that was left: the request goes on
            raise
        except BaseException:
            self.abort()
            raise

    def __next__(self):
        if self._told:
            raise StopIteration
        return self._next()

    # --- waiting in an event loop ---

    def _watch(self):
        loop = asyncio.get_running_loop()
        if self._event is None or self._loop is not loop:
            self._loop, self._signal = loop, None
            self._event = _loop.of_running_loop().watch(self._request)
        return self._event

    async def _await(self, last_only):
        try:
            while not self._done:
                event = self._watch()
                event.clear()
                added = self._pump()
                if self._done or (added and not last_only):
                    break
                await event.wait()
            return self._output()
        except Exception:
            raise
        except BaseException:  # the task was cancelled; or Ctrl-C in a loop that does not cancel tasks
            self.abort()
            raise

    async def aresult(self):
        """Waits for the end. A task that is cancelled here aborts the request."""
        return await self._await(last_only=True)

    def __await__(self):
        return self.aresult().__await__()

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self._told:
            raise StopAsyncIteration
        output = await self._await(last_only=not self._streaming)
        self._told = self._done
        return output
