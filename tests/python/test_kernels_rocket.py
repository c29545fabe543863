"""foveal.kernels_rocket without a GPU: its structures are the header's, and what it refuses."""

import ctypes

import c_header
import pytest
from test_kernels import Tensor

import foveal
from foveal import kernels, kernels_rocket


@pytest.mark.parametrize("name, structure", [
    ("page_bounds", kernels_rocket._Lane), ("bounds_params", kernels_rocket._Bounds),
    ("rocket_params", kernels_rocket._Decode)])
def test_structures_are_the_headers(name, structure):
    sizes = {"foveal_attention_params": ctypes.sizeof(kernels._Params),
             "foveal_page_bounds": ctypes.sizeof(kernels_rocket._Lane)}
    expected = c_header.fields("kernels_rocket.h", f"foveal_{name}", sizes)
    assert [(field, ctypes.sizeof(kind)) for field, kind in structure._fields_] == expected


@pytest.fixture
def bounds_calls(monkeypatch):
    """What reaches foveal_rocket_bounds."""
    calls = []

    class Library:
        def foveal_rocket_bounds(self, params, stream, message, size):
            params = params._obj
            calls.append({name: getattr(params, name) for name, _ in params._fields_})
            return 0

    monkeypatch.setattr(kernels, "_library", Library())
    monkeypatch.setattr(kernels, "_torch_of", lambda tensor: None)
    monkeypatch.setattr(kernels_rocket, "_torch", lambda where, tensor: None)
    return calls


def bounds_arguments(**changed):
    """4 sequences over 2 KV heads, pages of 16 that the bounds cut in four."""
    given = {"k": Tensor((100, 2, 16, 128), ptr=1 << 12), "kv_len": Tensor((4,), "int32", ptr=2 << 12),
             "page_table": Tensor((4, 10), "int32", ptr=3 << 12),
             "bounds": Tensor((100, 2, 4, 2, 128), "float8_e5m2", ptr=4 << 12)}
    given.update(changed)
    return given


def test_page_bounds_reads_both_layouts(bounds_calls):
    kernels_rocket.page_bounds(**bounds_arguments())
    kernels_rocket.page_bounds(**bounds_arguments(k=Tensor((100, 16, 2, 128), ptr=1 << 12), kv_layout="NHD",
                                                  max_q_len=7))
    for call, longest in zip(bounds_calls, (160, 7)):
        assert (call["num_seqs"], call["num_kv_heads"], call["page_size"], call["max_q_len"]) == (4, 2, 16, longest)
    assert (bounds_calls[0]["k_head_stride"], bounds_calls[0]["k_token_stride"]) == (16 * 128, 128)
    assert (bounds_calls[1]["k_head_stride"], bounds_calls[1]["k_token_stride"]) == (128, 2 * 128)


@pytest.mark.parametrize("changed, text", [
    ({"kv_layout": "DHN"}, r"\[rocket_bounds\] got kv_layout 'DHN'; need 'HND' or 'NHD'"),
    ({"kv_len": Tensor((4,), "int32", device=1)}, r"\[rocket_bounds\] got kv_len on cuda:1; need cuda:0"),
    ({"page_table": Tensor((4, 10), "int32", device=1)}, r"got page_table on cuda:1"),
    ({"page_table": Tensor((3, 10), "int32")}, r"got page_table of shape \[3, 10\]; need \[4, any\]"),
    ({"max_q_len": 2**31}, r"got max_q_len 2147483648; need a whole number"),
])
def test_page_bounds_refuses(bounds_calls, changed, text):
    with pytest.raises(foveal.Error, match=text):
        kernels_rocket.page_bounds(**bounds_arguments(**changed))
    assert not bounds_calls
