"""foveal.kernels_rocket without a GPU: its structures are the header's."""

import ctypes
import pathlib
import re

import pytest

from foveal import kernels, kernels_rocket

HEADER = pathlib.Path(__file__).resolve().parents[2] / "include/foveal/kernels_rocket.h"
SIZES = {"uint32_t": 4, "int32_t": 4, "int64_t": 8, "float": 4, "size_t": 8,
         "foveal_attention_params": ctypes.sizeof(kernels._Params),
         "foveal_page_bounds": ctypes.sizeof(kernels_rocket._Lane)}


@pytest.mark.parametrize("name, structure", [
    ("page_bounds", kernels_rocket._Lane), ("bounds_params", kernels_rocket._Bounds),
    ("rocket_params", kernels_rocket._Decode)])
def test_structures_are_the_headers(name, structure):
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.S)
    body = re.search(rf"typedef struct foveal_{name} \{{(.*?)\}}", text, re.S).group(1)
    declared = []
    for line in filter(str.strip, body.split(";")):
        kind, field = re.match(r"\s*(.*?)(\w+)\s*$", line, re.S).groups()
        declared.append((field, 8 if "*" in kind else SIZES[kind.strip()]))
    assert [(field, ctypes.sizeof(kind)) for field, kind in structure._fields_] == declared
