#!/usr/bin/env python3
"""Every file with kernels (`*.cu` and `*.cuh` that define a `__global__` function, and `*_cpu.cc`, compiled
per instruction set) has the eight fields: what it computes, its data, how it is launched, its numerics,
its source and a measurement."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIELDS = ("Computes", "In/out", "Units", "Launch", "Needs", "Numerics", "Source", "Measured")


def kernel_files():
    for path in sorted((ROOT / "src").rglob("*_cpu.cc")):
        if not path.stem.endswith(("_table_cpu", "_probe_cpu")):  # pointers; the vocabulary for its test
            yield path
    for path in sorted([*(ROOT / "src").rglob("*.cu"), *(ROOT / "src").rglob("*.cuh")]):
        if not path.stem.endswith("_test") and "__global__" in path.read_text():
            yield path


def main():
    problems = []
    for path in kernel_files():
        text = path.read_text()
        missing = [field for field in FIELDS if f"{field}:" not in text]
        if missing:
            problems.append(f"{path.relative_to(ROOT)}: kernel comment lacks {', '.join(missing)}")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"kernel docs: {'good' if not problems else f'{len(problems)} problems'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
