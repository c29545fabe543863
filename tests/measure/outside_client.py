#!/usr/bin/env python3
"""A second opinion on foveal bench serve: an asyncio client written apart from it, only the standard library.

    outside_client.py --port 8000 --dataset D.jsonl [--concurrency N]       prints JSON

Definitions are the ones everybody uses: TTFT from sending to the first piece of text, end to end to the last
one, TPOT = (end to end - TTFT) / (tokens - 1), tokens as the server counts them."""

import argparse
import asyncio
import json
import pathlib
import statistics
import time
import urllib.request


async def read_stream(reader):
    """The bytes of a chunked body, piece by piece."""
    while size := int((await reader.readline()).split(b";")[0], 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readline()


async def ask(port, body):
    data = json.dumps(body).encode()
    start = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                 b"Content-Length: %d\r\n\r\n" % len(data) + data)
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise RuntimeError(head.decode())
    stamps, tokens, rest = [], 0, b""
    async for piece in read_stream(reader):
        *events, rest = (rest + piece).split(b"\n\n")
        now = time.perf_counter()
        for event in events:
            if event == b"data: [DONE]":
                continue
            got = json.loads(event.removeprefix(b"data: "))
            if got["choices"] and (got["choices"][0]["text"] or got["choices"][0]["logprobs"]):
                stamps.append(now)
            if got.get("usage"):
                tokens = got["usage"]["completion_tokens"]
    writer.close()
    ttft, latency = stamps[0] - start, stamps[-1] - start
    return {"ttft_ms": 1e3 * ttft, "latency_ms": 1e3 * latency, "tokens": tokens,
            "tpot_ms": 1e3 * (latency - ttft) / max(1, tokens - 1)}


async def load(port, requests, concurrency, extra):
    gate = asyncio.Semaphore(concurrency)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models") as models:
        name = json.load(models)["data"][0]["id"]

    async def one(request):
        body = {"model": name, "prompt": request.get("input_ids") or request["prompt"],
                "max_tokens": request["output_tokens"], "temperature": 0, "ignore_eos": True, "stream": True,
                "stream_options": {"include_usage": True}, **extra}
        async with gate:
            return await ask(port, body)

    start = time.perf_counter()
    done = await asyncio.gather(*map(one, requests))
    seconds = time.perf_counter() - start
    mean = {key: statistics.mean(one[key] for one in done) for key in ("ttft_ms", "tpot_ms", "latency_ms")}
    return {"output_tok_s": sum(one["tokens"] for one in done) / seconds, **mean}


def run(port, dataset, concurrency, extra=None):
    requests = [json.loads(line) for line in pathlib.Path(dataset).read_text().splitlines()]
    return asyncio.run(load(port, requests, concurrency, extra or {}))


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--port", type=int, required=True)
    words.add_argument("--dataset", required=True)
    words.add_argument("--concurrency", type=int, default=4)
    given = words.parse_args()
    print(json.dumps(run(given.port, given.dataset, given.concurrency)))
