#!/usr/bin/env python3
"""Prints runs side by side: stats_table.py A.json B.json ..., files that `foveal run --stats` wrote."""

import json
import pathlib
import sys


def mib(num_bytes):
    return f"{num_bytes / 2**20:.1f} MiB"


ROWS = [
    ("prompt tokens", lambda s: str(s["prompt_tokens"])),
    ("answer tokens", lambda s: str(s["completion_tokens"])),
    ("time to first token", lambda s: f"{s['timings']['ttft_ms'] / 1000:.2f} s"),
    ("prompt tokens/s", lambda s: f"{s['timings']['prefill_tok_s']:.0f}"),
    ("decode tokens/s", lambda s: f"{s['timings']['decode_tok_s']:.1f}"),
    ("KV memory", lambda s: mib(s["memory"]["kv_bytes"])),
    ("skipped in prefill", lambda s: f"{100 * s['sparsity']['prefill']:.1f} %"),
    ("skipped in decode", lambda s: f"{100 * s['sparsity']['decode']:.1f} %"),
]


def main():
    runs = [(pathlib.Path(arg).stem, json.loads(pathlib.Path(arg).read_text())) for arg in sys.argv[1:]]
    width = max(len(name) for name, _ in runs) + 4
    print(" " * 24 + "".join(f"{name:>{max(width, 14)}}" for name, _ in runs))
    for label, value in ROWS:
        print(f"{label:24}" + "".join(f"{value(stats):>{max(width, 14)}}" for _, stats in runs))


if __name__ == "__main__":
    main()
