"""Structures as a C header of ours declares them."""

import pathlib
import re

INCLUDE = pathlib.Path(__file__).resolve().parents[2] / "include/foveal"
SIZES = {"uint32_t": 4, "int32_t": 4, "int64_t": 8, "float": 4, "size_t": 8}


def fields(header, structure, sizes=()):
    """[(name, bytes)] of `structure` in include/foveal/`header`; `sizes`: of other structures in it."""
    known = SIZES | dict(sizes)
    text = re.sub(r"/\*.*?\*/", "", (INCLUDE / header).read_text(), flags=re.S)
    body = re.search(rf"typedef struct {structure} \{{(.*?)\}}", text, re.S).group(1)
    found = []
    for line in filter(str.strip, body.split(";")):
        first, *rest = line.split(",")
        kind, name = re.match(r"\s*(.*?)(\w+)\s*$", first, re.S).groups()
        found += [(each, 8 if "*" in kind else known[kind.strip()]) for each in (name, *map(str.strip, rest))]
    return found
