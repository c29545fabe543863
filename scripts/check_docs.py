#!/usr/bin/env python3
"""Every path of this repository that a document names in backticks exists."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMED = re.compile(r"`((?:src|include|tools|tests|text|bench|docs|scripts|examples|cmake)/[\w./-]+)`")


def main():
    problems = []
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("src/**/*.md")]
    for document in sorted(documents):
        for name in NAMED.findall(document.read_text()):
            if not (ROOT / name.rstrip(".")).exists():
                problems.append(f"{document.relative_to(ROOT)}: names {name}, which does not exist")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"docs: {'good' if not problems else f'{len(problems)} problems'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
