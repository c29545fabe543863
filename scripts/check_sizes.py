#!/usr/bin/env python3
"""File and function sizes: a file over 500 lines or a median over 120 stops the build; host functions
stay within 60 lines, device functions within 250. Tests, generated files and unpack tables are counted
but not stopped."""

import pathlib
import re
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
MAX_FILE = 500
MAX_MEDIAN = 120
MAX_FUNCTION = 60
MAX_DEVICE_FUNCTION = 250
SUFFIXES = {".cc", ".h", ".cu", ".cuh", ".rs"}


def exempt(path):
    return path.stem.endswith(("_test", "_testing")) or "tests" in path.parts or "golden" in path.parts


NOT_FUNCTION = re.compile(r"(?:namespace|class|struct|enum|union|extern|using|typedef|#|//|\}|\)|template)\b|[#/})]")


def function_lengths(text):
    """(first line, length, head) of functions defined at column 0: our format closes them with a lone brace
    there. Methods inside a class body are not seen; they are short or the file is over its size."""
    start, head = None, ""
    for number, line in enumerate(text.split("\n"), 1):
        if start is not None and line.startswith("}"):
            if line == "}" and "(" in head:
                yield start, number - start + 1, head
            start = None
        elif start is None and line and not line[0].isspace() and not NOT_FUNCTION.match(line):
            start, head = number, line
        elif start is not None and line and not line[0].isspace() and head.rstrip().endswith(";"):
            start, head = (number, line) if not NOT_FUNCTION.match(line) else (None, "")
        elif start is not None and not head.rstrip().endswith(("{", ";")):
            head += line
        if start is not None and head.rstrip().endswith((";", "};")):
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
            if path.suffix in {".cc", ".cu", ".cuh"} and not path.stem.endswith("_cpu") and folder != "bench":
                for first, length, head in function_lengths(text):
                    device = "__global__" in head or "__device__" in head
                    most = MAX_DEVICE_FUNCTION if device else MAX_FUNCTION
                    if length > most:
                        problems.append(f"{where}:{first}: function of {length} lines; need at most {most}")
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
