#!/usr/bin/env python3
"""Every path of this repository that a document names in backticks exists, and so does every file of
results that it names without its folder; prose lines are at most 120 columns (tables, code and headings
may be longer). `--fix` wraps what is longer."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMED = re.compile(r"`((?:src|include|tools|tests|text|bench|docs|scripts|examples|cmake|python)/[\w./-]+)`")
RESULT = re.compile(r"`(\d{4}-\d\d-\d\d-[\w-]+\.md)`")
MAX_COLUMNS = 120
ITEM = re.compile(r"(\s*)([-*+]|\d+\.)\s+")
# What would begin a list, a heading, a quotation or a table if it came first in a line.
MARKER = re.compile(r"[-*+#>|]+$|\d+[.)]$|[>|]")
# A code span with what touches it, or a word: neither is cut.
TOKEN = re.compile(r"(?:[^\s`]*`[^`]*`)+[^\s`]*|\S+")


def documents():
    folders = [path for name in ("docs", "src", "bench", "tests") for path in ROOT.glob(f"{name}/**/*.md")]
    return sorted([*ROOT.glob("*.md"), *folders])


def wrapped(first, rest, lines):
    """The text of `lines` filled up to the columns; `first` begins the first line, `rest` all others."""
    words = []
    for token in TOKEN.findall(" ".join(lines)):
        if words and MARKER.match(token):
            words[-1] += " " + token
        else:
            words.append(token)
    out, line, begins = [], first, True
    for word in words:
        if not begins and len(line) + 1 + len(word) > MAX_COLUMNS:
            out.append(line)
            line, begins = rest, True
        line += word if begins else " " + word
        begins = False
    return [*out, line]


def blocks(text):
    """(kind, lines) of a document: prose is what may be wrapped, a list item being prose of its own."""
    fence, block = False, []
    for line in text.split("\n"):
        fenced = line.lstrip().startswith("```")
        kept = fence or fenced or not line.strip() or line.lstrip().startswith(("|", "#", "<"))
        fence ^= fenced
        indented = not block and line.startswith("    ") and not ITEM.match(line)
        if kept or indented:
            if block:
                yield "prose", block
            block = []
            yield "kept", [line]
        elif block and ITEM.match(line):
            yield "prose", block
            block = [line]
        else:
            block.append(line)
    if block:
        yield "prose", block


def filled(text):
    out = []
    for kind, lines in blocks(text):
        if kind == "prose" and max(map(len, lines)) > MAX_COLUMNS:
            item = ITEM.match(lines[0])
            indent = re.match(r"\s*", lines[0]).group(0)
            first = item.group(0) if item else indent
            body = [lines[0][len(first):], *lines[1:]]
            out += wrapped(first, " " * len(first), [line.strip() for line in body])
        else:
            out += lines
    return "\n".join(out)


def complaints(document):
    text = document.read_text()
    for name in NAMED.findall(text):
        if not (ROOT / name.rstrip(".")).exists():
            yield f"names {name}, which does not exist"
    for name in RESULT.findall(text):
        if not (ROOT / "bench/results" / name).exists():
            yield f"names {name}, which does not exist in bench/results"
    number, long = 0, []
    for kind, lines in blocks(text):
        for line in lines:
            number += 1
            # Two words at least: what cannot be cut is no fault.
            if kind == "prose" and len(line) > MAX_COLUMNS and len(TOKEN.findall(line)) > 1:
                long.append(number)
    if long:
        yield f"line {long[0]} and {len(long) - 1} more: need at most {MAX_COLUMNS} columns (--fix wraps)"


def main():
    problems = []
    for document in documents():
        if "--fix" in sys.argv[1:]:
            text = document.read_text()
            if filled(text) != text:
                document.write_text(filled(text))
        problems += [f"{document.relative_to(ROOT)}: {text}" for text in complaints(document)]
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"docs: {'good' if not problems else f'{len(problems)} problems'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
