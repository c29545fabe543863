#!/usr/bin/env python3
"""File and function sizes: a file over 500 lines or a median over 120 stops the build; host functions
stay within 60 lines. Tests, generated files and unpack tables are counted but not stopped."""

import pathlib
import re
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
MAX_FILE = 500
MAX_MEDIAN = 120
MAX_FUNCTION = 60
SUFFIXES = {".cc", ".h", ".cu", ".cuh", ".rs"}


def exempt(path):
    return path.stem.endswith("_test") or "tests" in path.parts or "golden" in path.parts


def function_lengths(text):
    """(first line, length) of bodies whose closing brace stands at column 0 of a function: our format
    puts a function's last line as a lone brace at the definition's own indent."""
    lines = text.split("\n")
    start = None
    for number, line in enumerate(lines, 1):
        if start is None:
            opens = re.match(r"[A-Za-z_~].*\)\s*(?:const\s*)?(?:noexcept\s*)?(?:->.*)?\{$", line) or \
                re.match(r"    .*\)\s*(?:const\s*)?(?:noexcept\s*)?\{$", line)
            if opens and not line.lstrip().startswith(("if", "for", "while", "switch", "namespace")):
                start = number
        elif line == "}":
            yield start, number - start + 1
            start = None


def main():
    sizes, problems = [], []
    for folder in ("src", "include", "tools", "text/src", "bench", "tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix not in SUFFIXES:
                continue
            text = path.read_text()
            count = text.count("\n")
            if exempt(path):
                continue
            sizes.append(count)
            where = path.relative_to(ROOT)
            if count > MAX_FILE:
                problems.append(f"{where}: {count} lines; need at most {MAX_FILE}")
            if path.suffix == ".cc" and not path.stem.endswith("_cpu") and folder != "bench":
                for first, length in function_lengths(text):
                    if length > MAX_FUNCTION:
                        problems.append(f"{where}:{first}: function of {length} lines; "
                                        f"need at most {MAX_FUNCTION}")
    median = statistics.median(sizes)
    ninth = sorted(sizes)[int(len(sizes) * 0.9)]
    if median > MAX_MEDIAN:
        problems.append(f"median file has {median} lines; need at most {MAX_MEDIAN}")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"sizes: {len(sizes)} files, median {median:.0f}, p90 {ninth}, max {max(sizes)} lines"
          f"{'' if not problems else f'; {len(problems)} problems'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
