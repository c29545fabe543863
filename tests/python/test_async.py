"""Requests that were not waited for: event loops, threads, streams, aborts."""

import asyncio
import gc
import threading
import time

import pytest

import foveal
from foveal import LLM, SamplingParams

# Nearly all of the context: it never ends while a test looks the other way.
LONG = SamplingParams(max_tokens=8000, ignore_eos=True)
HANG_S = 300  # only a hang lasts so long


def test_await_many(llm):
    async def main():
        params = SamplingParams(max_tokens=6)
        prompts = [f"Number {idx} is" for idx in range(12)]
        outputs = await asyncio.gather(*(llm.generate_async(p, params) for p in prompts))
        assert [output.prompt for output in outputs] == prompts
        return [output.outputs[0].text for output in outputs]

    texts = asyncio.run(main())
    assert texts == asyncio.run(main())  # another loop, another descriptor
    assert threading.active_count() == 1  # no thread a request


@pytest.mark.parametrize("n", [1, 3])
def test_stream_equals_whole(llm, n):
    params = SamplingParams(max_tokens=12, n=n, temperature=0.7, seed=3, logprobs=1)
    whole = llm.generate("Once upon a time", params)

    def check(items):
        for index in range(n):
            one = whole.outputs[index]
            parts = [item.outputs[index] for item in items]
            assert "".join(part.text_diff for part in parts) == one.text == parts[-1].text
            assert sum((part.token_ids_diff for part in parts), []) == one.token_ids
            assert sum((part.logprobs_diff for part in parts), []) == one.logprobs
        assert [item.finished for item in items] == [False] * (len(items) - 1) + [True]
        assert items[-1].timings.decode_tokens > 0

    check(list(llm.generate_async("Once upon a time", params, streaming=True)))

    async def collect():
        stream = llm.generate_async("Once upon a time", params, streaming=True)
        return [item async for item in stream]

    check(asyncio.run(collect()))


def test_streams_have_items_before_the_end(llm):
    stream = llm.generate_async("Hello", LONG, streaming=True)
    for item in stream:
        assert not item.finished and item.outputs[0].length > 0
        break
    assert not next(stream).finished  # a loop that was left is not the end

    async def first():
        async for item in llm.generate_async("Hello", LONG, streaming=True):
            return item.finished

    assert asyncio.run(first()) is False


def test_without_streaming_there_is_one_item(llm):
    items = list(llm.generate_async("Hello", SamplingParams(max_tokens=5)))
    assert len(items) == 1 and items[0].finished


def test_result_and_timeout(llm):
    request = llm.generate_async("Hello", LONG)
    with pytest.raises(TimeoutError):
        request.result(timeout=0.05)
    assert not request.finished
    request.abort()
    output = request.result(timeout=HANG_S)
    assert output.outputs[0].finish_reason == "cancelled" and request.finished
    assert request.result() == output  # again, the same


def test_abort_in_a_loop(llm):
    async def main():
        request = llm.generate_async("Hello", LONG, streaming=True)
        async for output in request:
            if output.outputs[0].length >= 3:  # one item may have the tokens of several steps
                request.abort()
        return output

    assert asyncio.run(main()).outputs[0].finish_reason == "cancelled"
    idle(llm)


def test_a_cancelled_task_aborts(llm):
    async def main():
        request = llm.generate_async("Hello", LONG)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(request.aresult(), timeout=0.1)
        return await request

    assert asyncio.run(main()).outputs[0].finish_reason == "cancelled"


def idle(llm):
    """Every request has left, with its pages."""
    end = time.monotonic() + HANG_S
    while llm.get_stats().running or llm.get_stats().kv_pages_used:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_dropped_requests_end(llm):
    requests = [llm.generate_async("Hello", LONG) for _ in range(3)]
    del requests
    gc.collect()
    idle(llm)


def test_engine_runs_while_python_is_busy(llm):
    # The engine's thread never needs the interpreter: tokens come in while this thread spins.
    before = llm.get_stats().generated_tokens
    request = llm.generate_async("Hello", SamplingParams(max_tokens=8, ignore_eos=True))
    end = time.monotonic() + HANG_S
    while llm.get_stats().generated_tokens < before + 8:
        assert time.monotonic() < end
    assert request.result(timeout=HANG_S).outputs[0].length == 8


def test_threads_share_an_engine(llm):
    params = SamplingParams(max_tokens=6)
    want = [llm.generate(f"Thread {idx}", params).outputs[0].text for idx in range(6)]
    got = [None] * 6

    def work(idx):
        got[idx] = llm.generate(f"Thread {idx}", params, use_tqdm=False).outputs[0].text

    threads = [threading.Thread(target=work, args=(idx,)) for idx in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == want


def test_shutdown_cancels_and_closes(tiny_path):
    with LLM(tiny_path) as llm:
        request = llm.generate_async([5] * 10, SamplingParams(max_tokens=900, ignore_eos=True))
    assert request.result(timeout=HANG_S).outputs[0].finish_reason in ("cancelled", "length")
    llm.shutdown()  # a second time is fine
    with pytest.raises(foveal.InvalidArgumentError, match="after shutdown"):
        llm.generate([1, 2])
    with pytest.raises(foveal.InvalidArgumentError, match="after shutdown"):
        llm.get_stats()


def test_shutdown_wakes_whoever_waits(tiny_path):
    llm = LLM(tiny_path)
    params = SamplingParams(max_tokens=900, ignore_eos=True)
    ended = []

    def wait():
        ended.append(request.result().finished)

    request = llm.generate_async([5] * 10, params)
    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()

    async def main():
        task = asyncio.create_task(llm.generate_async([5] * 10, params).aresult())
        await asyncio.sleep(0.02)
        llm.shutdown()  # holds up this very loop
        ended.append((await asyncio.wait_for(task, HANG_S)).finished)

    asyncio.run(main())
    for thread in threads:
        thread.join(timeout=HANG_S)
        assert not thread.is_alive()
    assert ended == [True] * 3


def test_one_refused_prompt_ends_the_batch(llm):
    with pytest.raises(foveal.ContextLengthError):
        llm.generate([[5] * 10, [5] * 100000], LONG)
    idle(llm)
