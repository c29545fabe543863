"""foveal.kernels_top_k without a GPU: its structure is the header's."""

import ctypes
import pathlib
import re

from foveal import kernels_top_k

HEADER = pathlib.Path(__file__).resolve().parents[2] / "include/foveal/kernels_top_k.h"
SIZES = {"uint32_t": 4, "int32_t": 4, "int64_t": 8}


def test_structure_is_the_headers():
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.S)
    body = re.search(r"typedef struct foveal_top_k_params \{(.*?)\}", text, re.S).group(1)
    declared = []
    for line in filter(str.strip, body.split(";")):
        kind, field = re.match(r"\s*(.*?)(\w+)\s*$", line, re.S).groups()
        declared.append((field, 8 if "*" in kind else SIZES[kind.strip()]))
    fields = kernels_top_k._TopK._fields_
    assert [(field, ctypes.sizeof(kind)) for field, kind in fields] == declared
