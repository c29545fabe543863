#!/usr/bin/env python3
"""Every kernel has the eight fields: what it computes, its data, how it is launched, its numerics, its
source and a measurement.

A kernel is a `__global__` function of a `.cu` or `.cuh` file. Its fields are the comment right above it,
or the one at the head of the file, which then names it (without `_kernel`) under Computes, and under
Measured unless that names a document; a file with one kernel need not repeat its name. Of a `*_cpu.cc`,
which is compiled per instruction set, the file as a whole is looked at."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIELDS = ("Computes", "In/out", "Units", "Launch", "Needs", "Numerics", "Source", "Measured")
GLOBAL = re.compile(r"__global__")
BOUNDS = re.compile(r"\s*__launch_bounds__\s*\(")
KERNEL = re.compile(r"\s*(\w+)\s*\(")
COMMENT = re.compile(r"(?:^[ \t]*//.*\n)+", re.M)
DOCUMENT = re.compile(r"\b((?:docs|bench|src)/[\w./-]+\.md)\b")


def after_brackets(text, start):
    """The place behind the bracket that closes the one just before `start`."""
    depth = 1
    while depth:
        depth += {"(": 1, ")": -1}.get(text[start], 0)
        start += 1
    return start


def kernels(text):
    """(name, where its declaration begins) of each `__global__` function."""
    for found in GLOBAL.finditer(text):
        place = found.end()
        place += len(re.match(r"\s*(?:void)?", text[place:]).group(0))
        bounds = BOUNDS.match(text, place)
        if bounds:
            place = after_brackets(text, bounds.end())
            place += len(re.match(r"\s*(?:void)?", text[place:]).group(0))
        name = KERNEL.match(text, place)
        if not name:
            continue  # in a comment, or a declaration that only names the word
        begin = text.rfind("\n", 0, found.start()) + 1
        while text[:begin].rstrip("\n").rsplit("\n", 1)[-1].startswith("template"):
            begin = text.rfind("\n", 0, begin - 1) + 1
        yield name.group(1), begin


def fields_of(comment):
    """Field name to its text, of one comment."""
    lines = [re.sub(r"^[ \t]*///? ?", "", line) for line in comment.splitlines()]
    out, name = {}, None
    for line in lines:
        head = re.match(r"([A-Z][\w/]+):\s*(.*)", line)
        if head and head.group(1) in FIELDS:
            name = head.group(1)
            out[name] = head.group(2)
        elif name:
            out[name] += " " + line.strip()
    return out


def complaints(fields, short, must_name):
    """What is wrong with the fields of one kernel."""
    missing = [field for field in FIELDS if not fields.get(field, "").strip()]
    if missing:
        return [f"lacks {', '.join(missing)}"]
    out = []
    named = re.compile(rf"\b{re.escape(short)}\b")
    measured = fields["Measured"]
    if "not yet" in measured:
        out.append("Measured says 'not yet'; need a figure, a document, or what it is measured as part of")
    if must_name and not named.search(fields["Computes"]):
        out.append(f"Computes does not name {short}")
    if must_name and not DOCUMENT.match(measured) and not named.search(measured):
        out.append(f"Measured does not name {short}")
    out += [f"Measured names {name}, which does not exist" for name in DOCUMENT.findall(measured)
            if not (ROOT / name).exists()]
    return out


def check_cuda(path):
    text = path.read_text()
    comments = [found for found in COMMENT.finditer(text) if "Computes:" in found.group(0)]
    found_kernels = list(kernels(text))
    for name, begin in found_kernels:
        own = [comment for comment in comments if comment.end() == begin]
        head = [comment for comment in comments if comment.start() == 0]
        if not own and not head:
            yield f"{name}: kernel comment lacks {', '.join(FIELDS)}"
            continue
        fields = fields_of((own or head)[0].group(0))
        must_name = not own and len(found_kernels) > 1
        for complaint in complaints(fields, name.removesuffix("_kernel"), must_name):
            yield f"{name}: kernel comment: {complaint}"


def check_cpu(path):
    text = path.read_text()
    missing = [field for field in FIELDS if f"{field}:" not in text]
    if missing:
        yield f"kernel comment lacks {', '.join(missing)}"


def main():
    problems, count = [], 0
    for path in sorted((ROOT / "src").rglob("*_cpu.cc")):
        if not path.stem.endswith(("_table_cpu", "_probe_cpu")):  # pointers; the vocabulary for its test
            problems += [f"{path.relative_to(ROOT)}: {text}" for text in check_cpu(path)]
    for path in sorted([*(ROOT / "src").rglob("*.cu"), *(ROOT / "src").rglob("*.cuh")]):
        if not path.stem.endswith("_test"):
            count += len(list(kernels(path.read_text())))
            problems += [f"{path.relative_to(ROOT)}: {text}" for text in check_cuda(path)]
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"kernel docs: {count} CUDA kernels, {'good' if not problems else f'{len(problems)} problems'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
