#!/usr/bin/env python3
"""How many long prompts one cache holds at a time, dense and with RocketKV, and what the process's memory says.

    rocket_memory.py --foveal build/release/bin/foveal --model FILE.gguf

Two servers in turn with a cache of the same size, in tokens: that of --dense whole requests. Each gets more
requests at once than can fit, of different prompts, and answers them; meanwhile /metrics and the kernel are
asked how many run, how many pages they use and what the process holds (anonymous resident memory). A prompt is
one step, and answers are as long as they must be for the last prompt to meet the first."""

import argparse
import concurrent.futures
import http.client
import json
import pathlib
import random
import re
import socket
import subprocess
import tempfile
import time

ROCKET = "sparse_attention_config: {{algorithm: rocket, prompt_budget: {budget}}}\n"


class Server:
    def __init__(self, args, tokens, requests, config):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [args.foveal, "serve", "-m", args.model, "--port", self.port, "--config", config,
                   "--kv-max-tokens", tokens, "--max-batch-size", requests, "--prefill-chunk", args.prompt,
                   "--max-num-tokens", args.prompt + requests, "--no-kv-enable-block-reuse",
                   "--threads", args.threads]
        self.child = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
        while True:
            try:
                if self.ask("GET", "/ready")[0] == 200:
                    return
            except OSError:
                time.sleep(0.1)
            if self.child.poll() is not None:
                raise SystemExit(f"rocket_memory: the server ended with {self.child.returncode}")

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=36000)
        connection.request(method, path, None if body is None else json.dumps(body),
                           {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def metric(self, text, name):
        return int(float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.M).group(1)))

    def resident(self):
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+) kB", status).group(1)) / 1024

    def close(self):
        self.child.terminate()
        self.child.wait()


def measure(args, name, requests, rocket):
    tokens = args.dense * (args.prompt + args.answer)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:
        config.write(ROCKET.format(budget=args.budget) if rocket else "{}\n")
        config.flush()
        server = Server(args, tokens, requests, config.name)
    idle = server.resident()
    peak = {"running": 0, "used": 0, "resident": 0.0}

    def send(seed):
        prompt = [random.Random(seed).randrange(1000, 40000) for _ in range(args.prompt)]
        status, text = server.ask("POST", "/v1/completions", {"prompt": prompt, "max_tokens": args.answer,
                                                               "temperature": 0, "ignore_eos": True})
        if status != 200:
            raise SystemExit(f"rocket_memory: got {status}: {text}")

    with concurrent.futures.ThreadPoolExecutor(requests) as pool:
        sent = [pool.submit(send, seed) for seed in range(requests)]
        while not all(each.done() for each in sent):
            _, text = server.ask("GET", "/metrics")
            peak["running"] = max(peak["running"], server.metric(text, "foveal_requests_running"))
            peak["used"] = max(peak["used"], server.metric(text, 'foveal_kv_pages{state="used"}'))
            peak["resident"] = max(peak["resident"], server.resident())
            time.sleep(0.2)
        for each in sent:
            each.result()
    _, text = server.ask("GET", "/metrics")
    capacity = server.metric(text, "foveal_kv_pages_capacity")
    preempted = server.metric(text, "foveal_preemptions_total")
    server.close()
    print(f"{name:8} {requests:4} requests of {args.prompt} + {args.answer} tokens, cache of {capacity} pages: "
          f"at most {peak['running']} at once on {peak['used']} pages; resident {idle:.0f} MiB idle, "
          f"{peak['resident']:.0f} MiB at most; {preempted} preempted", flush=True)
    return peak["running"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--foveal", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--prompt", type=int, default=7000)
    parser.add_argument("--answer", type=int, default=64)
    parser.add_argument("--budget", type=int, default=512)
    parser.add_argument("--dense", type=int, default=4, help="whole requests that the cache has room for")
    parser.add_argument("--rocket", type=int, default=38, help="requests sent at once to the other server")
    args = parser.parse_args()
    dense = measure(args, "dense", args.dense + 1, rocket=False)
    rocket = measure(args, "rocket", args.rocket, rocket=True)
    print(f"{rocket / dense:.1f} times as many")


if __name__ == "__main__":
    main()
