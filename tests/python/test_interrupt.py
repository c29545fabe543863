"""Ctrl-C while Python waits for the engine."""

import signal
import subprocess
import sys
import time

import pytest

CODE = """
import sys, foveal
llm = foveal.LLM(sys.argv[1], kv_cache_config={{"max_tokens": 65536}})
params = foveal.SamplingParams(max_tokens=4000, ignore_eos=True)
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
        start = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "interrupted 0\n", child.stderr.read()
        assert time.monotonic() - start < 5
        assert child.wait(timeout=20) == 0
    finally:
        child.kill()
        child.communicate()
