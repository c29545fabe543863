"""foveal.kernels_mla without a GPU: its structures are the header's."""

import ctypes
import pathlib
import re

import pytest

from foveal import kernels_mla

HEADER = pathlib.Path(__file__).resolve().parents[2] / "include/foveal/kernels_mla.h"
SIZES = {"uint32_t": 4, "int32_t": 4, "int64_t": 8, "float": 4, "size_t": 8,
         "foveal_latent_cache": ctypes.sizeof(kernels_mla._Cache)}


@pytest.mark.parametrize("name, structure", [
    ("latent_cache", kernels_mla._Cache), ("mla_params", kernels_mla._Params),
    ("mla_rows_params", kernels_mla._Rows), ("mla_store_params", kernels_mla._Store)])
def test_structures_are_the_headers(name, structure):
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.S)
    body = re.search(rf"typedef struct foveal_{name} \{{(.*?)\}}", text, re.S).group(1)
    declared = []
    for line in filter(str.strip, body.split(";")):
        kind, field = re.match(r"\s*(.*?)(\w+)\s*$", line, re.S).groups()
        declared.append((field, 8 if "*" in kind else SIZES[kind.strip()]))
    assert [(field, ctypes.sizeof(kind)) for field, kind in structure._fields_] == declared
