#!/usr/bin/env python3
"""Every kernel family file that is compiled per instruction set (`*_cpu.cc`) opens with the eight
fields: what it computes, its data, how it is launched, its numerics, its source and a measurement."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIELDS = ("Computes", "In/out", "Units", "Launch", "Needs", "Numerics", "Source", "Measured")


def main():
    problems = []
    for path in sorted((ROOT / "src").rglob("*_cpu.cc")) + sorted((ROOT / "src").rglob("*.cu")):
        if path.stem.endswith(("_table_cpu", "_probe_cpu")):
            continue  # fills a table of pointers; exposes the vocabulary to its test
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
