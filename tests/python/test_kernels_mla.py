"""foveal.kernels_mla without a GPU: its structures are the header's."""

import ctypes
import re

import c_header
import pytest

from foveal import kernels_mla


@pytest.mark.parametrize("name, structure", [
    ("latent_cache", kernels_mla._Cache), ("mla_params", kernels_mla._Params),
    ("mla_rows_params", kernels_mla._Rows), ("mla_store_params", kernels_mla._Store)])
def test_structures_are_the_headers(name, structure):
    sizes = {"foveal_latent_cache": ctypes.sizeof(kernels_mla._Cache)}
    declared = c_header.fields("kernels_mla.h", f"foveal_{name}", sizes)
    assert [(field, ctypes.sizeof(kind)) for field, kind in structure._fields_] == declared


def test_flags_are_those_of_c():
    text = (c_header.INCLUDE / "kernels_mla.h").read_text().replace("\\\n", " ")
    for name in ("LOCAL", "FIXED_SPLITS"):
        value = re.search(rf"#define FOVEAL_MLA_{name}\s+(\d+)u", text).group(1)
        assert getattr(kernels_mla, name) == int(value), name
