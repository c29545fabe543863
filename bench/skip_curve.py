#!/usr/bin/env python3
"""What Skip Softmax skips and what it costs: (factor, share skipped, perplexity) of one text.

    skip_curve.py --foveal build/bin/foveal --model FILE.gguf [--tokens 3072 7650] [--out curve.json]

Prefill: the text's first tokens are read with `--prompt-logprobs 0 --max-tokens 0`; the perplexity is that of
every prompt token after the first. Decode: the share skipped while --decode-tokens tokens are generated
greedily after the whole text, how many of them agree with dense ones, and how far their log-probabilities
are from dense ones on average while they do."""

import argparse
import json
import math
import pathlib
import subprocess
import tempfile


def foveal(args, *words, stdin=None):
    out = subprocess.run([args.foveal, *map(str, words)], check=True, capture_output=True, text=True,
                         input=stdin).stdout
    return json.loads(out)


def run(args, ids, *words):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(ids, file)
        file.flush()
        return foveal(args, "run", "--json", "--model", args.model, "--threads", args.threads,
                      "--token-ids", f"@{file.name}", *words)


def setting(phase, factor):
    if factor == 0:
        return []
    return ["--sparse-attention-config",
            f"{{algorithm: skip_softmax, threshold_scale_factor: {{{phase}: {factor}}}}}"]


def prefill_point(args, ids, factor):
    got = run(args, ids, "--prompt-logprobs", 0, "--max-tokens", 0, *setting("prefill", factor))
    nll = -math.fsum(entry["logprob"] for entry in got["prompt_logprobs"][1:]) / (len(ids) - 1)
    return {"phase": "prefill", "tokens": len(ids), "factor": factor,
            "skipped": got["sparsity"]["prefill"], "perplexity": math.exp(nll)}


def decode_point(args, ids, factor):
    got = run(args, ids, "--max-tokens", args.decode_tokens, "--ignore-eos", "--logprobs", 0,
              *setting("decode", factor))
    return {"phase": "decode", "tokens": len(ids), "factor": factor,
            "skipped": got["sparsity"]["decode"], "answer": got["token_ids"],
            "logprobs": [entry["logprob"] for entry in got["logprobs"]]}


def compared(point, dense):
    if point["phase"] == "prefill":
        change = 100 * (point["perplexity"] / dense["perplexity"] - 1)
        return f"perplexity {point['perplexity']:.4f} | {change:+.2f} %"
    pairs = zip(point["answer"], dense["answer"])
    total = len(dense["answer"])
    same = next((idx for idx, (got, want) in enumerate(pairs) if got != want), total)
    away = [abs(got - want) for got, want in zip(point["logprobs"][:same], dense["logprobs"])]
    return f"{same} of {total} tokens as dense | {math.fsum(away) / max(1, same):.4f} nat"


def report(points):
    print("| phase | tokens | factor | skipped | result | from dense |\n|---|---|---|---|---|---|")
    for point in points:
        dense = next(other for other in points if other["factor"] == 0 and
                     (other["phase"], other["tokens"]) == (point["phase"], point["tokens"]))
        print(f"| {point['phase']} | {point['tokens']} | {point['factor']:g} | {100 * point['skipped']:.1f} % | "
              f"{compared(point, dense)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--foveal", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--text", type=pathlib.Path,
                        default=pathlib.Path("/usr/share/common-licenses/GPL-3"))
    parser.add_argument("--tokens", type=int, nargs="*", default=[3072, 1 << 30], help="at most the text")
    parser.add_argument("--factors", type=float, nargs="*", default=[0, 3, 10, 30, 100, 300, 1000])
    parser.add_argument("--decode-factors", type=float, nargs="*",
                        default=[0, 1, 3, 10, 30, 100, 300, 1000])
    parser.add_argument("--decode-tokens", type=int, default=64)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()

    text = foveal(args, "tokenize", "--model", args.model, stdin=args.text.read_text())
    points = []
    for count in args.tokens:
        points += [prefill_point(args, text[:count], factor) for factor in args.factors]
    points += [decode_point(args, text, factor) for factor in args.decode_factors]
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(points, indent=1))
    report(points)


if __name__ == "__main__":
    main()
