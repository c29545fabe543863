"""Ctrl-C while Python waits for the engine."""

import pathlib
import signal
import subprocess
import sys
import time
import weakref

import pytest

import foveal

PACKAGE = pathlib.Path(foveal.__file__).parent
LINES = {str(path): path.read_text().splitlines() for path in PACKAGE.glob("*.py")}
LONG = foveal.SamplingParams(max_tokens=8000, ignore_eos=True)

# Says "waiting" once tokens come and the main thread is where it waits for more.
CODE = """
import asyncio, sys, threading, time, foveal
llm = foveal.LLM(sys.argv[1], kv_cache_config={{"max_tokens": 65536}})
params = foveal.SamplingParams(max_tokens=8000, ignore_eos=True)

async def awaited():
    return await llm.generate_async("Hello", params).aresult()

def tell():
    main = threading.main_thread().ident
    while not (llm.get_stats().generated_tokens and
               sys._current_frames()[main].f_code.co_name == "{function}"):
        time.sleep(0.001)
    print("waiting", flush=True)

threading.Thread(target=tell, daemon=True).start()
try:
    {wait}
except KeyboardInterrupt:
    end = time.monotonic() + 300
    while (running := llm.get_stats().running) and time.monotonic() < end:
        time.sleep(0.001)
    print("interrupted", running, flush=True)
"""

WAITS = {  # what waits, and in which function
    "generate": ('llm.generate(["Hello"] * 3, params)', "_run"),
    "result": ('llm.generate_async("Hello", params).result()', "_wait"),
    "stream": ('list(llm.generate_async("Hello", params, streaming=True))', "_wait"),
    "asyncio": ("asyncio.run(awaited())", "select"),
}


@pytest.mark.parametrize("name", WAITS)
def test_ctrl_c(model_path, name):
    wait, function = WAITS[name]
    code = CODE.format(wait=wait, function=function)
    child = subprocess.Popen([sys.executable, "-c", code, model_path], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "waiting\n", child.communicate()[1]
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "interrupted 0\n", child.communicate()[1]
        assert child.wait(timeout=300) == 0
    finally:
        child.kill()
        child.communicate()


def interrupt_at(line, call, recorder):
    """Runs `call` with a KeyboardInterrupt before the line of that number, counted over the lines of
    Foveal's own that it goes through once it has submitted a request. A signal's is seen at calls and
    jumps, not before a `try:`; on the way into `result` it is still the caller's."""
    left, before = line, len(recorder.requests)

    def trace(frame, event, _):
        nonlocal left
        if not frame.f_code.co_filename.startswith(str(PACKAGE)):
            return None
        text = LINES[frame.f_code.co_filename][frame.f_lineno - 1].strip()
        inside = text != "try:" and frame.f_code.co_name != "result"
        if event == "line" and inside and len(recorder.requests) > before:
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        return call()
    finally:
        sys.settrace(None)


class Recorder:
    """An engine that remembers its requests, as long as somebody has them."""

    def __init__(self, engine):
        self._engine, self.requests = engine, []

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def submit(self, *args):
        request = self._engine.submit(*args)
        self.requests.append(weakref.ref(request))
        return request


def outcome(request):
    while not request.ended():
        request.poll()
        time.sleep(0.001)
    return request.result().outputs[0].finish_reason


@pytest.mark.parametrize("way", ["generate", "result", "stream"])
def test_ctrl_c_at_any_line(llm, monkeypatch, way):
    def call():
        if way == "generate":
            return llm.generate(["Hello"] * 2, LONG)
        request = llm.generate_async("Hello", LONG, streaming=way == "stream")
        return request.result() if way == "result" else list(request)

    recorder = Recorder(llm._engine)
    monkeypatch.setattr(llm, "_engine", recorder)
    for line in range(70):
        with pytest.raises(KeyboardInterrupt) as caught:
            interrupt_at(line, call, recorder)
        for request in recorder.requests:  # those that the traceback keeps, if any
            assert request() is None or outcome(request()) == "cancelled", caught.getrepr()
    assert recorder.requests


@pytest.mark.parametrize("take", ["result", "__next__"])
def test_ctrl_c_between_waits(llm, monkeypatch, take):
    """An interrupt may be seen in any of Foveal's own lines, not only where it sleeps."""
    stream = llm.generate_async("Hello", LONG, streaming=True)
    next(stream)
    pump = stream._pump

    def interrupted():
        pump()
        raise KeyboardInterrupt

    monkeypatch.setattr(stream, "_pump", interrupted)
    with pytest.raises(KeyboardInterrupt):
        getattr(stream, take)()
    stream._pump = pump
    assert stream.result().outputs[0].finish_reason == "cancelled"
