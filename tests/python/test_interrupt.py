"""Ctrl-C while Python waits for the engine."""

import signal
import subprocess
import sys
import time

import pytest

import foveal

CODE = """
import sys, foveal
llm = foveal.LLM(sys.argv[1], kv_cache_config={{"max_tokens": 65536}})
params = foveal.SamplingParams(max_tokens=8000, ignore_eos=True)
print("ready", flush=True)
try:
    {wait}
except KeyboardInterrupt:
    end = __import__("time").monotonic() + 10
    while llm.get_stats().running and __import__("time").monotonic() < end:
        pass
    print("interrupted", llm.get_stats().running, flush=True)
"""

WAITS = {
    "generate": 'llm.generate(["Hello"] * 3, params)',
    "result": 'llm.generate_async("Hello", params).result()',
    "stream": 'list(llm.generate_async("Hello", params, streaming=True))',
    "asyncio": '__import__("asyncio").run(llm.generate_async("Hello", params).aresult())',
}


@pytest.mark.parametrize("name", WAITS)
def test_ctrl_c(model_path, name):
    child = subprocess.Popen([sys.executable, "-c", CODE.format(wait=WAITS[name]), model_path],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.5)
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "interrupted 0\n", child.stderr.read()
        assert child.wait(timeout=60) == 0
    finally:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("take", ["result", "__next__"])
def test_ctrl_c_between_waits(llm, monkeypatch, take):
    """An interrupt may be seen in any of Foveal's own lines, not only where it sleeps."""
    stream = llm.generate_async("Hello", foveal.SamplingParams(max_tokens=4000, ignore_eos=True), streaming=True)
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
