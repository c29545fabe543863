#!/usr/bin/env python3
"""Speed of Foveal next to llama.cpp: the same file, the same threads, in turns, in one run.

    compare_llama.py --foveal build/bin --llama-python venv/bin/python --model FILE.gguf --threads 2 \\
        --out bench/results/NAME

Needs `foveal` and `bench_model` in the folder --foveal names, and a Python with bench/requirements.txt
(--llama-python), or a llama-bench of your own (--llama-bench: it cannot take turns within seconds and runs
as a whole before Foveal). Each point is brought to its depth first; then the engines are timed in turns,
--repeat times. llama.cpp's result is the faster of flash attention on and off. Every repeat must yield the
same tokens, and Foveal's must agree with a run without its prefix cache.

Writes NAME.md (the table) and NAME.json (every sample). --lock FILE is for a machine that others build on:
held shared while preparing and exclusive while timing; may be repeated, all but the last being a queue."""

import argparse
import contextlib
import datetime
import fcntl
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PROMPT = "The capital of France is"
SETTLE_S = 0.05  # an engine's threads spin for a while after its work; let them go to sleep

# (kind, rows, depth, least ratio to llama.cpp, if it is a goal)
POINTS = [
    ("prefill", 512, 0, 3.7),
    ("prefill", 512, 4096, None),
    ("prefill", 512, 7680, None),
    ("prefill", 4096, 0, 3.1),
    ("decode", 64, 0, 1.5),
    ("decode", 64, 4096, 2.0),
    ("decode", 64, 7680, 2.0),
]
GIVE_UP = 1.25
SKIP_DEPTH = 7680
SKIP_GOAL = 1.15


@contextlib.contextmanager
def hold(paths, mode):
    with contextlib.ExitStack() as held:
        with contextlib.ExitStack() as queue:
            for path in paths[:-1]:
                fcntl.flock(queue.enter_context(open(path, "a")), fcntl.LOCK_EX)
            if paths:
                fcntl.flock(held.enter_context(open(paths[-1], "a")), mode)
        yield


class Worker:
    """A child that answers one line of JSON to each line it is sent."""

    def __init__(self, command):
        self.child = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)

    def ask(self, *words):
        self.child.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        if not line:
            sys.exit(f"[compare] got no answer to {words}; need the child's own message above")
        return json.loads(line)

    def close(self):
        self.child.stdin.close()
        self.child.wait()


def foveal_worker(args, ids, model, extra=()):
    return Worker([args.foveal / "bench_model", "model", "--model", model, "--token-ids", f"@{ids}",
                   "--threads", args.threads, "--log-level", "warn", *extra])


def check_tokens(name, samples):
    if any(sample["tokens"] != samples[0]["tokens"] for sample in samples):
        sys.exit(f"[compare] got different tokens in repeats of {name}; need the same")


def take_turns(args, turns, warm_up=True):
    """turns: {name: function that times once}. Samples of each, A B A B; the first round may warm up. Of
    llama.cpp's two variants, one that was far slower in the first round is not run again."""
    samples = {}
    for number in range(args.repeat + warm_up):
        for name, once in list(turns.items()):
            time.sleep(SETTLE_S)
            sample = once()
            if number <= warm_up:
                samples[name] = [sample]  # the warm-up's is replaced
            else:
                samples[name].append(sample)
        if number == 0 and "llama 1" in turns:
            slow, fast = sorted(("llama 0", "llama 1"), key=lambda name: -samples[name][0]["ms"])
            if samples[slow][0]["ms"] > GIVE_UP * samples[fast][0]["ms"]:
                del turns[slow]
    return samples


def rate(samples):
    """Tokens per second: median, least, most."""
    rates = [1e3 * sample["rows"] / sample["ms"] for sample in samples]
    return {"median": statistics.median(rates), "min": min(rates), "max": max(rates)}


def run_llama_bench(args, points, model):
    """Results of llama-bench in the shape of our samples: {(kind, rows, depth, flash): samples}."""
    found = {}
    for kind, rows, depth, _ in points:
        with hold(args.lock, fcntl.LOCK_EX):
            out = subprocess.run(
                [args.llama_bench, "-m", model, "-t", str(args.threads), "-r", str(args.repeat), "-fa", "0,1",
                 "-d", str(depth), "-p", str(rows if kind == "prefill" else 0),
                 "-n", str(rows if kind == "decode" else 0), "-o", "json"],
                check=True, capture_output=True, text=True).stdout
        for entry in json.loads(out):
            flash = int(entry["flash_attn"])
            found[kind, rows, depth, flash] = [{"ms": ns / 1e6, "rows": rows} for ns in entry["samples_ns"]]
    return found


def compare_points(args, points, model, ids):
    given = run_llama_bench(args, points, model) if args.llama_bench else {}
    results = []
    with hold(args.lock, fcntl.LOCK_SH):
        foveal = foveal_worker(args, ids, model)
        foveal.ask("prepare", 0)
        llama = None
        if not args.llama_bench:
            llama = Worker([args.llama_python, HERE / "llama_worker.py", "serve", model, ids, args.threads])
            llama.ask("prepare", 0)
    for depth in sorted({point[2] for point in points}):
        with hold(args.lock, fcntl.LOCK_EX):
            for worker in filter(None, (foveal, llama)):
                worker.ask("prepare", depth)
            for kind, rows, _, goal in [point for point in points if point[2] == depth]:
                turns = {"foveal": lambda: foveal.ask(kind, rows)}
                if llama:
                    turns["llama 0"] = lambda: llama.ask(kind, rows, 0)
                    turns["llama 1"] = lambda: llama.ask(kind, rows, 1)
                samples = take_turns(args, turns, warm_up=rows <= 512)
                samples |= {f"llama {flash}": given[kind, rows, depth, flash] for flash in (0, 1) if given}
                check_samples(kind, depth, samples)
                results.append(summary(kind, rows, depth, goal, samples))
                print(line(results[-1]), flush=True)
        with hold(args.lock, fcntl.LOCK_SH):
            foveal.ask("verify")
    foveal.close()
    if llama:
        llama.close()
    return results


def check_samples(kind, depth, samples):
    """Foveal's prefill prompts differ each time; `verify` checks the last of them."""
    for name, values in samples.items():
        if all("tokens" in sample for sample in values) and (name, kind) != ("foveal", "prefill"):
            check_tokens(f"{name}, {kind} at {depth}", values)


def summary(kind, rows, depth, goal, samples):
    rates = {name: rate(values) for name, values in samples.items()}
    flash = max((0, 1), key=lambda flash: rates[f"llama {flash}"]["median"])
    return {"kind": kind, "rows": rows, "depth": depth, "goal": goal, "foveal": rates["foveal"],
            "llama": rates[f"llama {flash}"], "flash": flash, "samples": samples,
            "ratio": rates["foveal"]["median"] / rates[f"llama {flash}"]["median"]}


def spread(value):
    return f"{value['median']:.1f} ({value['min']:.1f} to {value['max']:.1f})"


def verdict(ratio, goal):
    return "" if goal is None else f"{'pass' if ratio >= goal else 'FAIL'} (>= {goal})"


def line(result):
    return (f"| {result['kind']} {result['rows']} | {result['depth']} | {spread(result['foveal'])} | "
            f"{spread(result['llama'])} | {'on' if result['flash'] else 'off'} | {result['ratio']:.2f} | "
            f"{verdict(result['ratio'], result['goal'])} |")


def compare_skip(args, model, ids):
    """Skip Softmax against our own dense at one depth, at factors that skip little and much."""
    results = []
    for factor in args.skip_factors:
        config = f"{{algorithm: skip_softmax, threshold_scale_factor: {factor}}}"
        with hold(args.lock, fcntl.LOCK_SH):
            workers = {"dense": foveal_worker(args, ids, model),
                       "skip": foveal_worker(args, ids, model, ["--sparse-attention-config", config])}
            for worker in workers.values():
                worker.ask("prepare", SKIP_DEPTH)
        for kind, rows in (("prefill", 512), ("decode", 64)):
            turns = {name: (lambda w=worker: w.ask(kind, rows)) for name, worker in workers.items()}
            with hold(args.lock, fcntl.LOCK_EX):
                samples = take_turns(args, turns)
            share = statistics.median(sample["skipped"] for sample in samples["skip"])
            dense, skip = rate(samples["dense"]), rate(samples["skip"])
            results.append({"factor": factor, "kind": kind, "skipped": share, "dense": dense, "skip": skip,
                            "ratio": skip["median"] / dense["median"], "samples": samples})
            print(skip_line(results[-1]), flush=True)
        for worker in workers.values():
            worker.close()
    return results


def compare_sparse(args, model, ids):
    """Decode at one depth: our dense, each method of --sparse and llama.cpp, in turns."""
    with hold(args.lock, fcntl.LOCK_SH):
        workers = {"dense": foveal_worker(args, ids, model)}
        for config in args.sparse:
            workers[config] = foveal_worker(args, ids, model, ["--sparse-attention-config", config])
        llama = Worker([args.llama_python, HERE / "llama_worker.py", "serve", model, ids, args.threads])
        for worker in (*workers.values(), llama):
            worker.ask("prepare", SKIP_DEPTH)
    turns = {name: (lambda w=worker: w.ask("decode", 64)) for name, worker in workers.items()}
    for flash in (0, 1):
        turns[f"llama {flash}"] = lambda flash=flash: llama.ask("decode", 64, flash)
    with hold(args.lock, fcntl.LOCK_EX):
        samples = take_turns(args, turns)
    for worker in (*workers.values(), llama):
        worker.close()
    rates = {name: rate(values) for name, values in samples.items()}
    best = max((value for name, value in rates.items() if name.startswith("llama")), key=lambda r: r["median"])
    results = [{"name": name, "rate": rates[name], "of_dense": rates[name]["median"] / rates["dense"]["median"],
                "of_llama": rates[name]["median"] / best["median"], "samples": samples[name]} for name in workers]
    results.append({"name": "llama.cpp", "rate": best, "of_dense": best["median"] / rates["dense"]["median"],
                    "of_llama": 1.0})
    for result in results:
        print(sparse_line(result), flush=True)
    return results


def sparse_line(result):
    return (f"| `{result['name']}` | {spread(result['rate'])} | {result['of_dense']:.2f} | "
            f"{result['of_llama']:.2f} |")


def skip_line(result):
    ratio, share = result["ratio"], result["skipped"]
    # Where about half is skipped the goal binds; where little is, it must not cost anything (2 %: noise).
    text = verdict(ratio, SKIP_GOAL) if 0.4 <= share <= 0.7 else verdict(ratio, 0.98) if share < 0.1 else ""
    return (f"| {result['factor']:g} | {result['kind']} | {100 * share:.1f} % | {spread(result['skip'])} | "
            f"{spread(result['dense'])} | {ratio:.3f} | {text} |")


def cold_foveal(args, model):
    begin = time.perf_counter()
    child = subprocess.Popen([args.foveal / "foveal", "run", "--model", model, "--prompt", PROMPT,
                              "--max-tokens", "1", "--threads", str(args.threads), "--log-level", "error"],
                             stdout=subprocess.PIPE)
    child.stdout.read(1)
    ms = 1e3 * (time.perf_counter() - begin)
    child.stdout.read()
    child.wait()
    return {"ms": ms, "rows": 1}


def cold_llama(args, model, flash):
    out = subprocess.run([args.llama_python, HERE / "llama_worker.py", "first", model, PROMPT,
                          str(args.threads), str(flash)], check=True, capture_output=True, text=True).stdout
    return json.loads(out) | {"rows": 1}


def compare_cold(args, model):
    with hold(args.lock, fcntl.LOCK_EX):
        samples = take_turns(args, {"foveal": lambda: cold_foveal(args, model),
                                    "llama 0": lambda: cold_llama(args, model, 0),
                                    "llama 1": lambda: cold_llama(args, model, 1)})
    found = {name: sorted(sample["ms"] for sample in values) for name, values in samples.items()}
    print(json.dumps({name: statistics.median(values) for name, values in found.items()}), flush=True)
    return found


def roofline(args, model, results):
    """Bytes of one decode step against a plain read, operations of one prefill against the peak."""
    out = subprocess.run([args.foveal / "foveal", "inspect", "--json", "--model", model], check=True,
                         capture_output=True, text=True).stdout
    info = json.loads(out)
    with hold(args.lock, fcntl.LOCK_EX):
        text = subprocess.run([args.foveal / "bench_gemm", "--path", "decode", "--dtype", "q4_1", "--m", "1",
                               "--n", "4096", "--k", "4096", "--threads", str(args.threads)], check=True,
                              capture_output=True, text=True).stdout
    peak = float(text.split(":")[1].split("GFLOP/s")[0])
    stream = float(text.strip().rsplit("of ", 1)[1])
    hidden, heads = info["hidden_size"], info["num_heads"] * info["head_dim"]
    attended = info["num_heads"] * info["head_dim"]
    weights = info["num_layers"] * (hidden * (heads + 2 * info["num_kv_heads"] * info["head_dim"])
                                    + heads * hidden + 3 * hidden * info["intermediate_size"])
    lines = []
    for result in results:
        seconds = result["rows"] / result["foveal"]["median"]
        if result["kind"] == "decode":
            middle = result["depth"] + result["rows"] / 2
            step = info["weights_bytes"] + middle * info["kv_bytes_per_token"]
            got = 1e-9 * step * result["rows"] / seconds
            lines.append(f"| decode at {result['depth']} | {got:.1f} GB/s | {stream:.1f} GB/s | "
                         f"{100 * got / stream:.0f} % |")
        else:
            pairs = result["rows"] * (result["depth"] + result["rows"] / 2)
            flops = 2 * weights * result["rows"] + 4 * info["num_layers"] * attended * pairs
            got = 1e-9 * flops / seconds
            lines.append(f"| prefill {result['rows']} at {result['depth']} | {got:.0f} GFLOP/s | "
                         f"{peak:.0f} GFLOP/s | {100 * got / peak:.0f} % |")
    return lines


def machine(args):
    rows = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((row.split(":")[1].strip() for row in rows if row.startswith("model name")), "unknown CPU")
    commit = subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True,
                            text=True).stdout.strip()
    return (f"{cpu}, {args.threads} threads; commit {commit}; {datetime.date.today()}; "
            f"medians of {args.repeat} (least to most), engines in turns")


def cold_lines(found):
    middle = {name: statistics.median(values) for name, values in found.items()}
    best = min(("llama 0", "llama 1"), key=middle.get)
    lines = ["Cold start to first token, file in the page cache (Foveal as a whole process, llama.cpp without",
             "its interpreter's start):", "", "| engine | ms | goal |", "|---|---|---|"]
    for label, name in (("Foveal", "foveal"), ("llama.cpp", best)):
        goal = "pass" if middle["foveal"] <= middle[best] else "FAIL"
        lines.append(f"| {label} | {middle[name]:.0f} ({found[name][0]:.0f} to {found[name][-1]:.0f}) | "
                     f"{goal if name == 'foveal' else ''} |")
    return [*lines, ""]


def report(args, sections):
    lines = ["# Foveal and llama.cpp", "", machine(args), ""]
    for name, found in sections.items():
        if "points" in found:
            lines += [f"## {name}", "",
                      "| what | depth | Foveal tok/s | llama.cpp tok/s | flash | ratio | goal |",
                      "|---|---|---|---|---|---|---|", *(line(result) for result in found["points"]), ""]
        if "roofline" in found:
            lines += ["Whole steps against this machine's ceilings: bytes of weights and KV, or operations of",
                      "GEMMs and causal attention.", "", "| what | reached | ceiling | share |",
                      "|---|---|---|---|", *found["roofline"], ""]
        if "skip" in found:
            lines += [f"Skip Softmax at depth {SKIP_DEPTH} against our own dense:", "",
                      "| factor | phase | skipped | skip tok/s | dense tok/s | ratio | goal |",
                      "|---|---|---|---|---|---|---|", *(skip_line(result) for result in found["skip"]), ""]
        if "sparse" in found:
            lines += [f"Decode of 64 tokens at depth {SKIP_DEPTH}:", "",
                      "| | tok/s | of dense | of llama.cpp |", "|---|---|---|---|",
                      *(sparse_line(result) for result in found["sparse"]), ""]
        if "cold" in found:
            lines += cold_lines(found["cold"])
    return "\n".join(lines)


def text_ids(args, folder):
    out = subprocess.run([args.foveal / "foveal", "tokenize", "--model", args.model], check=True,
                         input=args.text.read_text(), capture_output=True, text=True).stdout
    path = pathlib.Path(folder) / "ids.json"
    path.write_text(out)
    return path


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--foveal", type=pathlib.Path, required=True, help="folder of foveal and bench_model")
    parser.add_argument("--llama-python", help="a Python with bench/requirements.txt")
    parser.add_argument("--llama-bench", help="a llama-bench instead")
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--text", type=pathlib.Path,
                        default=pathlib.Path("/usr/share/common-licenses/GPL-3"))
    parser.add_argument("--only", help="only points like prefill:512:0, with commas")
    parser.add_argument("--f16", action="store_true", help="also an F16 copy of the model")
    parser.add_argument("--no-cold", dest="cold", action="store_false")
    parser.add_argument("--skip-factors", type=float, nargs="*", default=[],
                        help="also Skip Softmax at these factors")
    parser.add_argument("--sparse", action="append", default=[], metavar="CONFIG",
                        help="also decode with this sparse_attention_config (YAML); may be repeated")
    parser.add_argument("--lock", action="append", default=[])
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    if not args.llama_bench and not args.llama_python:
        parser.error("got neither --llama-python nor --llama-bench; need one")
    if args.sparse and not args.llama_python:
        parser.error("got --sparse without --llama-python; need it")
    return args


def main():
    args = parse_args()
    points = POINTS
    if args.only is not None:
        wanted = args.only.split(",")
        points = [point for point in POINTS if f"{point[0]}:{point[1]}:{point[2]}" in wanted]
    sections = {}
    with tempfile.TemporaryDirectory() as folder:
        ids = text_ids(args, folder)
        models = {pathlib.Path(args.model).stem: args.model}
        if args.f16 and args.llama_python:
            copy = str(pathlib.Path(folder) / "f16.gguf")
            subprocess.run([args.llama_python, HERE / "llama_worker.py", "f16", args.model, copy], check=True)
            models["F16 copy (reported, not a goal)"] = copy
        for name, model in models.items():
            found = sections[name] = {}
            if points:
                chosen = points if model == args.model else [(*point[:3], None) for point in points]
                found["points"] = compare_points(args, chosen, model, ids)
                found["roofline"] = roofline(args, model, found["points"])
            if model == args.model:
                if args.skip_factors:
                    found["skip"] = compare_skip(args, model, ids)
                if args.sparse:
                    found["sparse"] = compare_sparse(args, model, ids)
                if args.cold and args.llama_python:
                    found["cold"] = compare_cold(args, model)
    text = report(args, sections)
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.with_suffix(".md").write_text(text)
        args.out.with_suffix(".json").write_text(json.dumps(sections, indent=1))


if __name__ == "__main__":
    main()
