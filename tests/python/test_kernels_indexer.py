"""foveal.kernels_indexer without a GPU: its structures are the header's."""

import ctypes
import pathlib
import re

import pytest

from foveal import kernels_indexer

HEADER = pathlib.Path(__file__).resolve().parents[2] / "include/foveal/kernels_indexer.h"
SIZES = {"uint32_t": 4, "int32_t": 4, "int64_t": 8, "foveal_index_keys": ctypes.sizeof(kernels_indexer._Keys)}


@pytest.mark.parametrize("name, structure", [
    ("index_keys", kernels_indexer._Keys), ("indexer_prepare_params", kernels_indexer._Prepare),
    ("indexer_scores_params", kernels_indexer._Scores)])
def test_structures_are_the_headers(name, structure):
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.S)
    body = re.search(rf"typedef struct foveal_{name} \{{(.*?)\}}", text, re.S).group(1)
    declared = []
    for line in filter(str.strip, body.split(";")):
        kind, field = re.match(r"\s*(.*?)(\w+)\s*$", line, re.S).groups()
        declared.append((field, 8 if "*" in kind else SIZES[kind.strip()]))
    assert [(field, ctypes.sizeof(kind)) for field, kind in structure._fields_] == declared
