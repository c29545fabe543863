#!/usr/bin/env python3
"""Every kernel family file (`*.cu`, and `*_cpu.cc`, compiled per instruction set) opens with the eight
fields: what it computes, its data, how it is launched, its numerics, its source and a measurement.
The body of a kernel of several instances is a `.cuh`, which has them; `instances/*.cu` only name it."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIELDS = ("Computes", "In/out", "Units", "Launch", "Needs", "Numerics", "Source", "Measured")


def bodies():
    """The .cuh files beside an instances/ folder that hold a kernel."""
    found = []
    for folder in sorted((ROOT / "src").rglob("instances")):
        found += [path for path in sorted(folder.parent.glob("*.cuh")) if "__global__" in path.read_text()]
    return found


def main():
    problems = []
    for path in (sorted((ROOT / "src").rglob("*_cpu.cc")) + sorted((ROOT / "src").rglob("*.cu")) +
                 bodies()):
        if path.stem.endswith(("_table_cpu", "_probe_cpu", "_test")) or "instances" in path.parts:
            continue  # fills a table of pointers; exposes the vocabulary to its test; names a kernel
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
