#!/usr/bin/env python3
"""Ten minutes of good and bad traffic against one server: soak.py [SECONDS].

Good requests (several lengths, streams and not, one and several completions, shared and fresh prompts)
must answer as they did on the quiet server; bad ones must get a 4xx or a closed connection; memory must
stop growing and every page must come back. Prints the figures, and fails if any of that does not hold."""

import json
import random
import sys
import threading
import time

import harness

WORKERS = 6
SHARED = [7 + idx * 31 % 200 for idx in range(400)]


def good_bodies():
    rng = random.Random(1)
    bodies = []
    for length in (1, 20, 90, 300, 700):
        fresh = [rng.randrange(250) for _ in range(length)]
        bodies.append({"prompt": fresh, "max_tokens": 24, "temperature": 0, "ignore_eos": True})
        bodies.append({"prompt": SHARED[:length] + fresh[:9], "max_tokens": 12, "temperature": 1, "seed": length,
                       "n": 3, "ignore_eos": True})
    return bodies


def bad_call(server, rng):
    body = {"prompt": [1, 2], "max_tokens": 4}
    what = rng.randrange(8)
    if what == 0:
        return server.request("POST", "/v1/completions", {**body, "temperature": -1})[0]
    if what == 1:
        return server.request("POST", "/v1/completions", b"{" * rng.randrange(1, 5000))[0]
    if what == 2:
        return server.request("POST", "/v1/completions", {**body, "prompt": [2**40]})[0]
    if what == 3:
        return server.request("DELETE", "/v1/nothing")[0]
    if what == 4:
        return server.request("POST", "/v1/completions", {**body, "prompt": [3] * 100000})[0]
    if what == 5:
        return server.request("POST", "/v1/completions", {**body, "guided_regex": "("})[0]
    with server.socket() as sock:  # a client that goes away, in the middle of its request or of the answer
        text = json.dumps({**body, "max_tokens": 200, "stream": True, "ignore_eos": True})
        sock.sendall(f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: {len(text)}\r\n\r\n".encode())
        sock.sendall(text[:rng.randrange(len(text))].encode() if what == 6 else text.encode())
        if what == 7:
            sock.recv(200)
    return 0


def texts(answer):
    return [choice.get("text") for choice in answer["choices"]], answer["usage"]["completion_tokens"]


class Soak:
    def __init__(self, server, seconds):
        self.server, self.end = server, time.monotonic() + seconds
        self.bodies = good_bodies()
        self.quiet = [texts(server.post("/v1/completions", body)[1]) for body in self.bodies]
        self.lock = threading.Lock()
        self.good = self.bad = self.tokens = 0
        self.problems = []

    def note(self, problem):
        with self.lock:
            self.problems.append(problem)

    def work(self, number):
        rng = random.Random(number)
        while time.monotonic() < self.end and not self.problems:
            try:
                if rng.random() < 0.5:
                    at = rng.randrange(len(self.bodies))
                    status, answer = self.server.post("/v1/completions", self.bodies[at])
                    if status != 200 or texts(answer) != self.quiet[at]:
                        self.note(f"request {at}: {status}, {str(answer)[:300]}")
                    with self.lock:
                        self.good += 1
                        self.tokens += answer["usage"]["total_tokens"] if status == 200 else 0
                else:
                    status = bad_call(self.server, rng)
                    if status >= 500 or 0 < status < 400:
                        self.note(f"a bad request: {status}")
                    with self.lock:
                        self.bad += 1
            except Exception as error:  # noqa: BLE001 - reported at the end
                self.note(repr(error))


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600
    server = harness.Server("--sparse-attention-config",
                            "{algorithm: skip_softmax, threshold_scale_factor: {prefill: 100, decode: 30}}")
    soak = Soak(server, seconds)
    threads = [threading.Thread(target=soak.work, args=(number,)) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    time.sleep(seconds / 3)  # pools and caches are filled by then
    middle = harness.resident_kib(server.process.pid)
    for thread in threads:
        thread.join()
    idle = server.wait_idle()
    last = harness.resident_kib(server.process.pid)
    growth = (last - middle) / 1024
    print(f"{seconds:.0f} s: {soak.good} good requests, {soak.bad} bad ones, {soak.tokens} tokens; memory "
          f"{middle / 1024:.0f} MB after a third, {last / 1024:.0f} MB at the end; pages whole: {idle}")
    if not idle:
        soak.note("pages or requests were left")
    if growth > 40:
        soak.note(f"memory grew by {growth:.0f} MB in the last two thirds")
    if soak.good == 0 or soak.bad == 0:
        soak.note("nothing was asked")
    server.stop()
    for problem in soak.problems[:5]:
        print("soak: " + problem, file=sys.stderr)
    return 1 if soak.problems else 0


if __name__ == "__main__":
    sys.exit(main())
