#!/usr/bin/env python3
"""Foveal's server next to llama.cpp's: the same model, prompts and threads, in one run.

    compare_server.py --foveal build/release/bin/foveal --llama-server PATH --model FILE.gguf --threads 2 \\
        --out bench/results/NAME

Each point sends a batch of completions at a fixed concurrency, to one server and then to the other, greedy
and without an early end, and counts prompt and generated tokens over the wall time. Then, for Foveal alone:
what HTTP costs over the engine called directly, how much sooner a cached prefix answers, and what idle
streams cost in memory. Answers are checked: repeats must be equal. Writes NAME.md and NAME.json."""

import argparse
import concurrent.futures
import datetime
import http.client
import json
import pathlib
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time

# (prompt tokens, new tokens, requests at each concurrency)
WORKLOADS = [(512, 128, {1: 4, 8: 16, 32: 32}), (4096, 64, {1: 1, 8: 8})]


class Server:
    def __init__(self, name, command, port):
        self.name, self.port = name, port
        self.child = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL,
                                      stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                if self.get("/health")[0] == 200:
                    return
            except OSError:
                pass
            if self.child.poll() is not None:
                sys.exit(f"[{name}] got exit status {self.child.returncode}; need a running server")
            time.sleep(0.1)
        sys.exit(f"[{name}] got no answer in a minute; need a running server")

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def complete(self, ids, max_tokens):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1800)
        body = {"model": "m", "prompt": ids, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True}
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            sys.exit(f"[{self.name}] got {answer.status}: {text[:300]!r}; need 200")
        return json.loads(text)

    def rss_mb(self):
        for line in pathlib.Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        return 0.0

    def close(self):
        self.child.terminate()
        try:
            self.child.wait(20)
        except subprocess.TimeoutExpired:
            self.child.kill()


def prompts(count, length, shared, rng):
    """Random ids of a common range; `shared`: all but the last 32 tokens are the same."""
    common = [rng.randrange(1000, 40000) for _ in range(length - 32)]
    return [(common if shared else [rng.randrange(1000, 40000) for _ in range(length - 32)])
            + [rng.randrange(1000, 40000) for _ in range(32)] for _ in range(count)]


def throughput(server, batch, max_tokens, concurrency):
    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(concurrency) as pool:
        answers = list(pool.map(lambda ids: server.complete(ids, max_tokens), batch))
    seconds = time.perf_counter() - begin
    for ids, answer in zip(batch, answers):
        usage = answer["usage"]
        if usage["completion_tokens"] != max_tokens or usage["prompt_tokens"] < len(ids):
            sys.exit(f"[{server.name}] got usage {usage}; need {len(ids)} and {max_tokens}")
    tokens = sum(len(ids) + max_tokens for ids in batch)
    return tokens / seconds, [answer["choices"][0]["text"] for answer in answers]


def compare(servers, args, rng):
    rows = []
    for length, new, counts in WORKLOADS:
        for concurrency, count in counts.items():
            for shared in (False, True):
                row = {"prompt": length, "new": new, "concurrency": concurrency, "requests": count,
                       "shared": shared}
                for server in servers:
                    rates = []
                    for _ in range(args.repeat):
                        rates.append(throughput(server, prompts(count, length, shared, rng), new,
                                                concurrency)[0])
                    row[server.name] = rates
                rows.append(row)
                print(line(row, servers), flush=True)
    return rows


def spread(rates):
    middle = statistics.median(rates)
    return f"{middle:.0f}" if len(rates) == 1 else f"{middle:.0f} ({min(rates):.0f} to {max(rates):.0f})"


def line(row, servers):
    cells = [f"{row['prompt']} + {row['new']}", "yes" if row["shared"] else "no", str(row["concurrency"]),
             *(spread(row[server.name]) for server in servers)]
    if len(servers) == 2:
        ratio = statistics.median(row[servers[0].name]) / statistics.median(row[servers[1].name])
        cells.append(f"{ratio:.2f}")
    return "| " + " | ".join(cells) + " |"


def first_token_ms(server, ids):
    begin = time.perf_counter()
    server.complete(ids, 1)
    return 1e3 * (time.perf_counter() - begin)


def cached_prefix(server, rng):
    """A 7k prompt cold, and again: whole pages of it are found in the prefix index."""
    results = []
    for _ in range(3):
        ids = prompts(1, 7000, False, rng)[0]
        results.append((first_token_ms(server, ids), first_token_ms(server, ids)))
    return [statistics.median(column) for column in zip(*results)]


def idle_streams(server, count):
    """RSS that `count` open event streams add: each has asked and reads nothing."""
    before = server.rss_mb()
    body = json.dumps({"model": "m", "prompt": [1], "max_tokens": 4096, "stream": True,
                       "ignore_eos": True}).encode()
    head = (f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode()
    sockets = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(head + body)
        sockets.append(connection)
    time.sleep(2)
    after = server.rss_mb()
    for connection in sockets:
        connection.close()
    return after - before


def http_cost(server, args, rng):
    """The same prompts through HTTP and through bench_model's engine, in turns."""
    ids = prompts(1, 512, False, rng)[0]
    file = tempfile.NamedTemporaryFile("w", suffix=".json")
    json.dump(ids, file)
    file.flush()
    child = subprocess.Popen([args.foveal.parent / "bench_model", "model", "--model", args.model,
                              "--token-ids", f"@{file.name}", "--threads", str(args.threads), "--log-level", "warn"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(words):
        child.stdin.write(words + "\n")
        child.stdin.flush()
        return json.loads(child.stdout.readline())

    ask("prepare 480")
    server.complete(ids, 128)
    direct, through = [], []
    for _ in range(7):
        answer = ask("decode 127")
        direct.append(answer["ms"])
        begin = time.perf_counter()
        server.complete(ids[:481], 128)
        through.append(1e3 * (time.perf_counter() - begin))
    child.stdin.close()
    child.wait()
    file.close()
    return statistics.median(direct), statistics.median(through)


def machine(args):
    rows = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((row.split(":")[1].strip() for row in rows if row.startswith("model name")), "unknown CPU")
    commit = subprocess.run(["git", "-C", pathlib.Path(__file__).parent, "rev-parse", "--short", "HEAD"],
                            capture_output=True, text=True).stdout.strip()
    return f"{cpu}, {args.threads} threads; commit {commit}; {datetime.date.today()}"


def report(args, found, servers):
    names = [server.name for server in servers]
    lines = ["# Serving: Foveal and llama.cpp", "", machine(args), "",
             "Total tokens a second, prompt and generated together, over HTTP.", "",
             "| tokens | shared prefix | concurrency | " + " | ".join(names)
             + (" | ratio |" if len(names) == 2 else " |"),
             "|---" * (3 + len(names) + (len(names) == 2)) + "|",
             *(line(row, servers) for row in found["throughput"]), ""]
    cold, warm = found["cached_prefix"]
    direct, through = found["http_cost"]
    lines += [f"- A cached prefix of 7,000 tokens: first token after {cold:.0f} ms cold, {warm:.1f} ms cached "
              f"({cold / warm:.0f} times sooner).",
              f"- 128 tokens after 480 cached ones: {direct:.1f} ms of decoding in the engine called directly, "
              f"{through:.1f} ms through HTTP, prompt and connection included.",
              f"- 1,000 open streams add {found['idle_streams_mb']:.1f} MB.", ""]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--foveal", type=pathlib.Path, required=True)
    parser.add_argument("--llama-server", type=pathlib.Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    servers = [Server("Foveal", [args.foveal, "serve", "--model", args.model, "--port", 18431, "--threads",
                                 args.threads, "--served-model-name", "m"], 18431)]
    if args.llama_server:
        servers.append(Server("llama.cpp", [args.llama_server, "-m", args.model, "--port", 18432, "-t", args.threads,
                                            "-tb", args.threads, "-np", 32, "-c", 32 * 4608, "-kvu"], 18432))
    try:
        found = {"throughput": compare(servers, args, rng), "cached_prefix": cached_prefix(servers[0], rng),
                 "http_cost": http_cost(servers[0], args, rng),
                 "idle_streams_mb": idle_streams(servers[0], 1000)}
    finally:
        for server in servers:
            server.close()
    text = report(args, found, servers)
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.with_suffix(".md").write_text(text)
        args.out.with_suffix(".json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
