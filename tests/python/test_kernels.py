"""foveal.kernels without a GPU: what is read from tensors, what is refused, what reaches the library."""

import ctypes
import re
import subprocess
import sys
import types

import c_header
import pytest

import foveal
from foveal import _tensors, kernels


class Tensor:
    """As much of a torch.Tensor as is asked for."""

    def __init__(self, shape, dtype="bfloat16", ptr=4096, device=0, strides=None):
        self.shape, self.dtype, self.ptr = shape, f"torch.{dtype}", ptr
        self.device = types.SimpleNamespace(type="cpu" if device is None else "cuda", index=device)
        self.strides = strides or _tensors._dense_strides(shape)

    def data_ptr(self):
        return self.ptr

    def stride(self):
        return self.strides


class Library:
    """Remembers the call; answers with `status` and `message`."""

    def __init__(self, status=0, message=b""):
        self.calls, self.status, self.message = [], status, message
        for phase in ("prefill", "decode"):
            setattr(self, f"foveal_attention_{phase}", lambda *call, phase=phase: self.answer(phase, *call))
            setattr(self, f"foveal_attention_{phase}_workspace", lambda params: 1000)
            setattr(self, f"foveal_attention_{phase}_tiling", lambda params: kernels.Tiling(64, 128))

    def answer(self, phase, params, stream, message, size):
        params = params._obj
        self.calls.append((phase, {name: getattr(params, name) for name, _ in params._fields_}, stream))
        message.value = self.message
        return self.status


@pytest.fixture
def library(monkeypatch):
    library = Library()
    monkeypatch.setattr(kernels, "_library", library)
    return library


def decode_arguments(**changed):
    """4 sequences, 8 heads over 2, pages of 16."""
    pages = (100, 2, 16, 128)
    given = {"q": Tensor((4, 8, 128), ptr=1 << 12), "k": Tensor(pages, ptr=2 << 12), "v": Tensor(pages, ptr=3 << 12),
             "kv_len": Tensor((4,), "int32", ptr=4 << 12), "page_table": Tensor((4, 10), "int32", ptr=5 << 12),
             "out": Tensor((4, 8, 128), ptr=6 << 12), "workspace": Tensor((1024,), "uint8", ptr=7 << 12)}
    given.update(changed)
    return {name: value for name, value in given.items() if value is not None}


def test_struct_is_the_headers():
    expected = c_header.fields("kernels.h", "foveal_attention_params")
    assert [(name, ctypes.sizeof(kind)) for name, kind in kernels._Params._fields_] == expected


def test_flags_are_those_of_c():
    text = (c_header.INCLUDE / "kernels.h").read_text().replace("\\\n", " ")
    for name in ("FIXED_SPLITS", "INT8_VOTES"):
        value = re.search(rf"#define FOVEAL_ATTENTION_{name}\s+(\d+)u", text).group(1)
        assert getattr(kernels, name) == int(value), name


def test_decode_fills_the_struct(library):
    given = decode_arguments(window=100, skip_factor=2.5, counters=Tensor((4, 4), "int64", ptr=8 << 12))
    assert kernels.attention_decode(**given, stream=77) is given["out"]
    (phase, params, stream), = library.calls
    assert (phase, stream) == ("decode", 77)
    assert params["struct_size"] == ctypes.sizeof(kernels._Params)
    expected = {"q_dtype": 0, "kv_dtype": 0, "q": 4096, "q_row_stride": 1024, "q_head_stride": 128,
                "k": 2 << 12, "k_page_stride": 4096, "k_head_stride": 2048, "k_token_stride": 128,
                "v": 3 << 12, "num_seqs": 4, "num_rows": 4, "num_heads": 8, "num_kv_heads": 2, "head_dim": 128,
                "page_size": 16, "num_pages": 100, "max_q_len": 1, "max_kv_len": 160, "cu_q": None,
                "kv_len": 4 << 12, "page_table": 5 << 12, "page_table_stride": 10, "cu_k": None, "window": 100,
                "skip_factor": 2.5, "q_scale": 1.0, "counters": 8 << 12, "out": 6 << 12, "out_row_stride": 1024,
                "workspace": 7 << 12, "workspace_bytes": 1024, "lse": None, "threshold_len": None, "flags": 0}
    assert {name: params[name] for name in expected} == expected
    assert params["softmax_scale"] == pytest.approx(128 ** -0.5)


def test_prefill_of_other_layouts(library):
    pages = Tensor((100, 64, 2, 128), "float8_e4m3fn")
    given = decode_arguments(q=Tensor((50, 8, 128), "float8_e4m3fn"), k=pages, v=pages, kv_layout="NHD",
                             cu_q=Tensor((5,), "int32"), out=Tensor((50, 8, 128)), max_q_len=20, max_kv_len=600,
                             total_kv_len=2**33)
    kernels.attention_prefill(**given)
    params = library.calls[0][1]
    expected = {"q_dtype": 2, "kv_dtype": 2, "page_size": 64, "num_kv_heads": 2, "k_page_stride": 64 * 256,
                "k_head_stride": 128, "k_token_stride": 256, "num_rows": 50, "max_q_len": 20, "max_kv_len": 600,
                "total_kv_len": 2**33}
    assert {name: params[name] for name in expected} == expected
    rows = Tensor((300, 2, 128))
    kernels.attention_prefill(**decode_arguments(q=Tensor((50, 8, 128)), k=rows, v=rows, page_table=None,
                                                 cu_q=Tensor((5,), "int32"), cu_k=Tensor((5,), "int32", ptr=999),
                                                 out=Tensor((50, 8, 128))))
    params = library.calls[1][1]
    expected = {"page_table": None, "cu_k": 999, "k_token_stride": 256, "k_head_stride": 128, "num_pages": 300,
                "max_kv_len": 300, "max_q_len": 50}
    assert {name: params[name] for name in expected} == expected


@pytest.mark.parametrize("changed, text", [
    ({"q": 3}, "got q of type int; need a tensor with data_ptr() or __dlpack__()"),
    ({"q": Tensor((4, 8, 128), "float32")}, "got q of float32; need bfloat16 or float16 or float8_e4m3fn"),
    ({"q": Tensor((4, 8, 128), device=None)}, "got q in host memory; need it on a GPU"),
    ({"q": Tensor((4, 1024))}, "got q of shape [4, 1024]; need 3 dimensions"),
    ({"q": Tensor((4, 8, 128), strides=(1024, 1, 8))}, "got q with stride 8 in its last dimension; need 1"),
    ({"q": Tensor((5, 8, 128))}, "got q of 5 rows and kv_len of 4; need one row a sequence"),
    ({"k": Tensor((100, 2, 16, 64))}, "got v of shape [100, 2, 16, 128]; need [100, 2, 16, 64]"),
    ({"v": Tensor((100, 2, 16, 128), "float16")}, "got v of float16; need bfloat16"),
    ({"k": Tensor((100, 2, 16, 64)), "v": Tensor((100, 2, 16, 64))}, "got k with rows of 64; need 128, as in q"),
    ({"k": Tensor((100, 2, 16, 128), device=1)}, "got k on cuda:1; need cuda:0, where q is"),
    ({"kv_len": Tensor((4,), "int64")}, "got kv_len of int64; need int32"),
    ({"page_table": Tensor((5, 10), "int32")}, "got page_table of shape [5, 10]; need [4, any]"),
    ({"page_table": None}, "got both or neither of page_table and cu_k; need one of them"),
    ({"kv_layout": "DNH"}, "got kv_layout 'DNH'; need 'HND' or 'NHD'"),
    ({"out": Tensor((4, 8, 128), "float16")}, "got out of float16; need bfloat16"),
    ({"out": Tensor((4, 8, 64))}, "got out of shape [4, 8, 64]; need [4, 8, 128]"),
    ({"out": None}, "got no out with tensors that are not PyTorch's; need out"),
    ({"workspace": None}, "got no workspace with tensors that are not PyTorch's; need workspace of 1000 bytes"),
    ({"window": -1}, "got window -1; need a whole number from 0 to 2147483647"),
    ({"max_kv_len": 2**31}, "got max_kv_len 2147483648; need a whole number from 0 to 2147483647"),
    ({"k_scale": "1"}, "got k_scale '1'; need a number"),
    ({"counters": Tensor((4, 4), "int64", strides=(8, 1))}, "got counters with stride 8; need 4, dense rows"),
    ({"lse": Tensor((4, 8), "float16")}, "got lse of float16; need float32"),
    ({"cu_q": Tensor((5,), "int32")}, "got unknown argument cu_q; need those of its documentation"),
    ({"stream": "a"}, "got stream of type str; need a torch stream or a cudaStream_t as a number"),
])
def test_decode_refuses(library, changed, text):
    with pytest.raises(foveal.InvalidArgumentError) as refused:
        kernels.attention_decode(**decode_arguments(**changed))
    assert str(refused.value) == f"[attention_decode] {text}"
    assert not library.calls


def test_prefill_needs_offsets(library):
    with pytest.raises(foveal.InvalidArgumentError, match=r"^\[attention_prefill\] got no cu_q; need int32"):
        kernels.attention_prefill(**decode_arguments(), cu_q=None)


@pytest.mark.parametrize("status, kind", [
    (1, foveal.InvalidArgumentError), (2, foveal.UnsupportedError), (3, foveal.InternalError)])
def test_the_librarys_refusal_is_raised(monkeypatch, status, kind):
    monkeypatch.setattr(kernels, "_library", Library(status, b"[decode] got 1; need 2"))
    with pytest.raises(kind) as refused:
        kernels.attention_decode(**decode_arguments())
    assert str(refused.value) == "[decode] got 1; need 2"


def test_questions_need_no_memory(library):
    given = decode_arguments(out=None, workspace=None)
    assert kernels.workspace_bytes("decode", **given) == 1000
    assert repr(kernels.tiling("decode", **given)) == "Tiling(vote_rows=64, keys=128)"


def test_questions_about_a_refused_shape_raise_its_error(monkeypatch):
    library = Library(2, b"[attention_decode] got head_dim 80; need 64, 96, 128, 192 or 256")
    library.foveal_attention_decode_workspace = lambda params: 0
    library.foveal_attention_decode_tiling = lambda params: kernels.Tiling(0, 0)
    monkeypatch.setattr(kernels, "_library", library)
    for question in (kernels.workspace_bytes, kernels.tiling):
        with pytest.raises(foveal.UnsupportedError, match="got head_dim 80"):
            question("decode", **decode_arguments(out=None, workspace=None))


def test_questions_name_the_phases(library):
    with pytest.raises(foveal.InvalidArgumentError) as refused:
        kernels.workspace_bytes("both", **decode_arguments(out=None, workspace=None))
    assert str(refused.value) == "[kernels] got phase 'both'; need 'prefill' or 'decode'"


class Exported:
    """A tensor that only speaks DLPack."""

    def __init__(self, data, device, code, bits, shape, strides, offset):
        lengths = (ctypes.c_int64 * len(shape))
        self.held = lengths(*shape), lengths(*strides) if strides else None
        self.tensor = _tensors._DLTensor(
            data, _tensors._Device(*device), len(shape), _tensors._DType(code, bits, 1), self.held[0], self.held[1],
            offset)
        self.streams = []

    def __dlpack_device__(self):
        return self.tensor.device.type, self.tensor.device.index

    def __dlpack__(self, **stream):
        self.streams.append(stream)
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new(ctypes.addressof(self.tensor), b"dltensor", None)


def test_dlpack_is_read():
    exported = Exported(4096, (2, 1), 4, 16, (2, 3, 8), (64, 8, 1), 16)
    found = _tensors.view("x", "q", exported, ("bfloat16",), 3, 77)
    assert found == (4112, (2, 3, 8), (64, 8, 1), "bfloat16", 1)
    dense = Exported(4096, (2, 0), 10, 8, (2, 3, 8), None, 0)
    assert _tensors.view("x", "q", dense, ("float8_e4m3fn",), 3) == (4096, (2, 3, 8), (24, 8, 1), "float8_e4m3fn", 0)
    assert exported.streams == [{"stream": 77}] and dense.streams == [{"stream": 1}]
    for refused, text in ((Exported(4096, (1, 0), 2, 32, (8,), None, 0), "got q in host memory; need it on a GPU"),
                          (Exported(4096, (2, 0), 2, 64, (8,), None, 0),
                           "got q of DLPack type 2 of 64 bits; need float32")):
        with pytest.raises(foveal.InvalidArgumentError, match=text):
            _tensors.view("x", "q", refused, ("float32",), 1)


def test_a_missing_library_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(kernels, "_library", None)
    with pytest.raises(foveal.UnsupportedError, match="got no .*/gone.so; need a package built with CUDA"):
        kernels.load(tmp_path / "gone.so")
    (tmp_path / "bad.so").write_text("no library")
    with pytest.raises(foveal.UnsupportedError, match="need a libfoveal_kernels.so of this version"):
        kernels.load(tmp_path / "bad.so")


def test_the_packages_library_loads(monkeypatch):
    """Where the wheel has it: no driver is needed to load it or to ask it."""
    monkeypatch.setattr(kernels, "_library", None)
    try:
        kernels.load()
    except foveal.UnsupportedError as error:
        pytest.skip(str(error))
    given = decode_arguments(out=None, workspace=None)
    assert kernels.tiling("decode", **given).keys > 0
    assert kernels.workspace_bytes("decode", **given) >= 0
    with pytest.raises(foveal.Error, match=r"^\[.*\] got .*; need "):
        kernels.attention_decode(**decode_arguments(workspace=Tensor((0,), "uint8", ptr=0)))


def test_torch_is_not_imported():
    code = "import sys, foveal.kernels; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
