#!/usr/bin/env python3
"""Figures of what foveal measured, as SVG (or PNG by the name's end), drawn by matplotlib.

    plot.py needles  D/summary.json out.svg     scores of niah: lengths x depths, a panel an arm
    plot.py layers   FILE.json      out.svg     what attention left out, by layer and phase: eval's or bench's
    plot.py latency  R1.json R2.json ... out.svg   output throughput against time to first token, a point a report

Needs bench/requirements-plot.txt."""

import argparse
import json
import pathlib

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402


def arms_of(summary):
    return [name for name, part in summary.items() if isinstance(part, dict) and "sparsity" in part]


def needles(files, out):
    summary = json.loads(files[0].read_text())
    cells = [group for group in summary["groups"] if {"length", "depth"} <= group["tags"].keys()]
    if not cells:
        raise SystemExit(f"[plot] got {files[0]} without lengths and depths; need the summary of foveal eval niah")
    lengths = sorted({int(cell["tags"]["length"]) for cell in cells})
    depths = sorted({float(cell["tags"]["depth"]) for cell in cells})
    arms = arms_of(summary)
    figure, axes = plt.subplots(1, len(arms), figsize=(1.5 + 3.5 * len(arms), 4), squeeze=False, layout="constrained")
    for axis, arm in zip(axes[0], arms):
        grid = [[float("nan")] * len(lengths) for _ in depths]
        for cell in cells:
            row, col = depths.index(float(cell["tags"]["depth"])), lengths.index(int(cell["tags"]["length"]))
            grid[row][col] = cell[arm]["score"]
        image = axis.imshow(grid, vmin=0, vmax=100, cmap="RdYlGn", aspect="auto")
        axis.set_xticks(range(len(lengths)), lengths)
        axis.set_yticks(range(len(depths)), [f"{100 * depth:.0f} %" for depth in depths])
        axis.set(title=arm, xlabel="tokens", ylabel="depth of the needle")
    figure.colorbar(image, ax=axes, label="found, %")
    figure.savefig(out)


def layers(files, out):
    report = json.loads(files[0].read_text())
    arm = report["sparsity"] if "sparsity" in report else report[arms_of(report)[-1]]["sparsity"]
    phases = ("prefill", "decode")
    grid = [[100 * layer[phase] for layer in arm["layers"]] for phase in phases]
    figure, axis = plt.subplots(figsize=(10, 2.4), layout="constrained")
    image = axis.imshow(grid, vmin=0, vmax=100, cmap="viridis", aspect="auto")
    axis.set_yticks(range(2), phases)
    axis.set(title=arm["method"], xlabel="layer")
    figure.colorbar(image, ax=axis, label="left out, %")
    figure.savefig(out)


def latency(files, out):
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for file in files:
        report = json.loads(file.read_text())
        point = (report["streaming_metrics"]["avg_ttft_ms"], report["performance"]["system_output_throughput_tok_s"])
        axis.plot(*point, "o")
        axis.annotate(file.stem, point, textcoords="offset points", xytext=(5, 5))
    axis.set(xlabel="average time to first token, ms", ylabel="output, tokens a second")
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)
    figure.savefig(out)


def main():
    figures = {"needles": needles, "layers": layers, "latency": latency}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figure", choices=figures)
    parser.add_argument("files", type=pathlib.Path, nargs="+")
    parser.add_argument("out", type=pathlib.Path)
    args = parser.parse_args()
    figures[args.figure](args.files, args.out)


if __name__ == "__main__":
    main()
