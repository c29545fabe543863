"""Foveal's CUDA attention kernels for tensors of PyTorch, or of any package with DLPack.

    from foveal import kernels
    out = kernels.attention_decode(q, k_pages, v_pages, kv_len, page_table=table)

Calls libfoveal_kernels.so (include/foveal/kernels.h, which has every field's meaning) through ctypes.
Nothing synchronises; a call may be captured into a CUDA graph when `out` and `workspace` are given.
What cannot be done raises foveal.Error: a sentence of the form `[where] got X; need Y`."""

import ctypes
import numbers
import pathlib
import sys

from foveal import _errors
from foveal._tensors import view

INT8_VOTES = 2  # flags: prefill's Skip Softmax votes by scores of keys and queries rounded to int8
FIXED_SPLITS = 1  # flags: decode splits at absolute positions, so a row does not depend on its batch

_FLOATS = ("bfloat16", "float16", "float8_e4m3fn")
_DTYPE = {name: number for number, name in enumerate(_FLOATS)}
_PTR, _I32, _I64, _U32 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_uint32


class _Params(ctypes.Structure):  # foveal_attention_params
    _fields_ = [
        ("struct_size", _U32), ("q_dtype", _I32), ("kv_dtype", _I32),
        ("q", _PTR), ("q_row_stride", _I64), ("q_head_stride", _I64),
        ("out", _PTR), ("out_row_stride", _I64), ("out_head_stride", _I64), ("lse", _PTR),
        ("k", _PTR), ("k_page_stride", _I64), ("k_head_stride", _I64), ("k_token_stride", _I64),
        ("v", _PTR), ("v_page_stride", _I64), ("v_head_stride", _I64), ("v_token_stride", _I64),
        ("num_seqs", _I32), ("num_rows", _I32), ("num_heads", _I32), ("num_kv_heads", _I32),
        ("head_dim", _I32), ("page_size", _I32), ("num_pages", _I32), ("max_q_len", _I32), ("max_kv_len", _I32),
        ("total_kv_len", _I64),
        ("cu_q", _PTR), ("kv_len", _PTR), ("page_table", _PTR), ("page_table_stride", _I64), ("cu_k", _PTR),
        ("softmax_scale", ctypes.c_float), ("window", _I32),
        ("q_scale", ctypes.c_float), ("k_scale", ctypes.c_float), ("v_scale", ctypes.c_float),
        ("skip_factor", ctypes.c_float), ("skip_factors", _PTR), ("threshold_len", _PTR), ("counters", _PTR),
        ("workspace", _PTR), ("workspace_bytes", ctypes.c_size_t), ("split_keys", _I32), ("flags", _U32),
    ]


class Tiling(ctypes.Structure):  # foveal_attention_tiling
    """Tile geometry of Skip Softmax: what a calibrated factor belongs to."""
    _fields_ = [("vote_rows", _I32), ("keys", _I32)]

    def __repr__(self):
        return f"Tiling(vote_rows={self.vote_rows}, keys={self.keys})"


# What load() needs of a library, so that an older one is refused there.
_ENTRIES = (
    "foveal_attention_prefill", "foveal_attention_prefill_workspace", "foveal_attention_prefill_tiling",
    "foveal_attention_decode", "foveal_attention_decode_workspace", "foveal_attention_decode_tiling",
    "foveal_rocket_decode", "foveal_rocket_decode_workspace", "foveal_rocket_bounds", "foveal_top_k",
    "foveal_mla_attention", "foveal_mla_workspace", "foveal_mla_rows", "foveal_mla_store",
    "foveal_indexer_prepare", "foveal_indexer_scores",
)

_library = None
_workspaces = {}


def load(path=None):
    """Loads libfoveal_kernels.so, by default the one of this package. Called by the first use."""
    global _library
    path = pathlib.Path(path) if path else pathlib.Path(__file__).with_name("libfoveal_kernels.so")
    if not path.exists():
        raise _errors.UnsupportedError(
            f"[kernels] got no {path}; need a package built with CUDA, or kernels.load(PATH)")
    try:
        library = ctypes.CDLL(str(path))
        for name in _ENTRIES:
            _declare(library, name)
    except (OSError, AttributeError) as error:
        raise _errors.UnsupportedError(f"[kernels] got {error}; need a libfoveal_kernels.so of this version") from error
    _library = library


def _declare(library, name):
    function = getattr(library, name)
    if name.endswith("_workspace"):
        function.restype, function.argtypes = ctypes.c_size_t, [_PTR]
    elif name.endswith("_tiling"):
        function.restype, function.argtypes = Tiling, [_PTR]
    else:
        function.restype, function.argtypes = ctypes.c_int, [_PTR, _PTR, ctypes.c_char_p, ctypes.c_size_t]


def _function(name):
    if _library is None:
        load()
    if name not in _ENTRIES:
        _declare(_library, name)
    return getattr(_library, name)


def attention_prefill(q, k, v, cu_q, kv_len, *, max_q_len=None, **options):
    """softmax(scale * q k^T + causal mask) v over a ragged batch whose queries end their sequences.

    q [rows, heads, head_dim], cu_q [sequences + 1], kv_len [sequences]; `max_q_len`, a bound, defaults
    to rows. The rest is as in attention_decode. Returns `out`."""
    return _attend("prefill", q, k, v, kv_len, dict(options, cu_q=cu_q, max_q_len=max_q_len))


def attention_decode(q, k, v, kv_len, **options):
    """The same for one query a sequence: q [sequences, heads, head_dim]. Returns `out`.

    k and v: pages [pages, kv_heads, page_size, head_dim] with page_table [sequences, most_pages] int32,
    or with kv_layout="NHD" [pages, page_size, kv_heads, head_dim]; or contiguous [rows, kv_heads,
    head_dim] with cu_k [sequences + 1] int32. Any strides, as long as head_dim is dense.

    out (q's shape; bfloat16 for float8 queries), lse [rows, heads] float32: where to write
    softmax_scale (1/sqrt(head_dim)), window (0: none), q_scale, k_scale, v_scale (float8)
    max_kv_len: a bound of kv_len; defaults to what the page table or k can hold
    total_kv_len: a bound of their sum; prefill over float8 keys or with INT8_VOTES runs in fewer launches with it
    skip_factor (0: dense), skip_factors [sequences] float32, threshold_len [sequences] int32: Skip Softmax
    counters [sequences, 4] int64, added to: query-key pairs, pairs used, tiles, tiles skipped
    split_keys, flags: see FIXED_SPLITS and INT8_VOTES
    workspace: uint8 tensor, zeroed once, of workspace_bytes(...) at least, not shared with the other phase; else
      one is kept a stream
    stream: a torch stream or a cudaStream_t as a number; defaults to PyTorch's current one"""
    return _attend("decode", q, k, v, kv_len, options)


def workspace_bytes(phase, q, k, v, kv_len, **options):
    """What `workspace` must hold for a call of "prefill" or "decode" with these arguments."""
    params, _ = _params(phase, q, k, v, kv_len, dict(options))
    name = f"foveal_attention_{phase}"
    size = _function(f"{name}_workspace")(ctypes.byref(params))
    return size or _call(name, params) or size


def tiling(phase, q, k, v, kv_len, **options):
    """Skip Softmax's Tiling for a call of "prefill" or "decode" with these arguments."""
    params, _ = _params(phase, q, k, v, kv_len, dict(options))
    name = f"foveal_attention_{phase}"
    found = _function(f"{name}_tiling")(ctypes.byref(params))
    return found if found.keys else _call(name, params) or found


def _attend(phase, q, k, v, kv_len, options):
    where = f"attention_{phase}"
    workspace = options.pop("workspace", None)
    given = options.pop("stream", None)
    out = options.pop("out", None)
    torch = _torch_of(q)
    stream = _stream_handle(where, given, q, torch)
    params, device = _params(phase, q, k, v, kv_len, options, stream)
    if out is None:
        if torch is None:
            _errors.refuse(where, "no out with tensors that are not PyTorch's", "out")
        out = torch.empty(q.shape, device=q.device, dtype=torch.bfloat16 if params.q_dtype == 2 else q.dtype)
    _set_out(where, params, out, device, stream)
    name = f"foveal_attention_{phase}"
    _give_workspace(where, f"{name}_workspace", params, params, workspace, q, stream, torch)
    _call(name, params, stream)
    return out


def _give_workspace(where, name, params, holder, workspace, q, stream, torch):
    """Sets the workspace that entry `name` asks for, the caller's or one that is kept, in `holder`: `params` or the
    part of it that has the fields."""
    size = _function(name)(ctypes.byref(params))
    if workspace is None and size:
        workspace = _kept_workspace(where, name, size, q, stream, torch)
    if workspace is not None:
        held = view(where, "workspace", workspace, ("uint8",), 1, stream)
        holder.workspace, holder.workspace_bytes = held.ptr, held.shape[0]


def _call(name, params, stream=0):
    """Sizes that are refused have no workspace and no tiling; the entry says why and touches nothing."""
    message = ctypes.create_string_buffer(1024)
    status = _function(name)(ctypes.byref(params), stream, message, len(message))
    if status != 0:
        kinds = {1: _errors.InvalidArgumentError, 2: _errors.UnsupportedError}
        raise kinds.get(status, _errors.InternalError)(message.value.decode(errors="replace"))


def _stream_handle(where, stream, q, torch):
    if stream is None:
        return torch.cuda.current_stream(q.device).cuda_stream if torch and q.is_cuda else 0
    stream = getattr(stream, "cuda_stream", stream)
    if not isinstance(stream, int):
        _errors.refuse(where, f"stream of type {type(stream).__name__}", "a torch stream or a cudaStream_t as a number")
    return stream


def _torch_of(tensor):
    """PyTorch, if this is a tensor of it."""
    torch = sys.modules.get("torch")
    return torch if torch and isinstance(tensor, torch.Tensor) else None


def _needed_torch(where, tensor):
    torch = _torch_of(tensor)
    if torch is None:
        _errors.refuse(where, f"a {type(tensor).__name__}", "a tensor of PyTorch")
    return torch


def _kept_workspace(where, name, size, q, stream, torch):
    if torch is None:
        _errors.refuse(where, "no workspace with tensors that are not PyTorch's", f"workspace of {size} bytes")
    key = (name, q.device.index, stream)
    kept = _workspaces.get(key)
    if kept is None or kept.numel() < size:
        with torch.cuda.stream(torch.cuda.ExternalStream(stream, q.device)):
            kept = torch.zeros(size + size // 4, dtype=torch.uint8, device=q.device)
        _workspaces[key] = kept
    return kept


def _set_out(where, params, out, device, stream):
    need = ("bfloat16",) if params.q_dtype == 2 else (_FLOATS[params.q_dtype],)
    found = view(where, "out", out, need, 3, stream)
    _same_device(where, "out", found, device)
    _shape(where, "out", found, (params.num_rows, params.num_heads, params.head_dim))
    params.out, params.out_row_stride, params.out_head_stride = found.ptr, found.strides[0], found.strides[1]


def _params(phase, q, k, v, kv_len, options, stream=0):
    """The parameter struct, but for out and workspace, and the GPU's index. Pops what it knows of `options`."""
    if phase not in ("prefill", "decode"):
        _errors.refuse("kernels", f"phase {phase!r}", "'prefill' or 'decode'")
    where = f"attention_{phase}"
    for late in ("out", "workspace", "stream"):
        options.pop(late, None)
    query = view(where, "q", q, _FLOATS, 3, stream)
    rows, heads, head_dim = query.shape
    params = _Params(struct_size=ctypes.sizeof(_Params), q_dtype=_DTYPE[query.dtype], q=query.ptr,
                     q_row_stride=query.strides[0], q_head_stride=query.strides[1])
    for name, value in (("num_rows", rows), ("num_heads", heads), ("head_dim", head_dim)):
        _set_count(where, params, name, value)
    lengths = view(where, "kv_len", kv_len, ("int32",), 1, stream)
    _same_device(where, "kv_len", lengths, query.device)
    params.num_seqs, params.kv_len = lengths.shape[0], lengths.ptr
    array = _arrays(where, options, query.device, stream)
    _set_queries(where, phase, params, array, options)
    _set_keys(where, params, k, v, array, options, query.device, stream)
    _set_numbers(where, params, array, options)
    if options:
        _errors.refuse(where, f"unknown argument {sorted(options)[0]}", "those of its documentation")
    return params, query.device


def _arrays(where, options, device, stream):
    """A function that takes a named optional array out of `options`."""
    def array(name, dtypes, *shape):
        tensor = options.pop(name, None)
        if tensor is None:
            return None
        found = view(where, name, tensor, dtypes, len(shape), stream)
        _same_device(where, name, found, device)
        _shape(where, name, found, shape)
        return found
    return array


def _set_queries(where, phase, params, array, options):
    longest = options.pop("max_q_len", None)
    if phase == "prefill":
        cu_q = array("cu_q", ("int32",), params.num_seqs + 1)
        if cu_q is None:
            _errors.refuse(where, "no cu_q", "int32 offsets of the sequences' queries")
        params.cu_q = cu_q.ptr
        _set_count(where, params, "max_q_len", params.num_rows if longest is None else longest)
    else:
        _need(where, params.num_rows == params.num_seqs, f"q of {params.num_rows} rows and kv_len of {params.num_seqs}",
              "one row a sequence")
        params.max_q_len = 1


def _set_keys(where, params, k, v, array, options, device, stream):
    table = array("page_table", ("int32",), params.num_seqs, None)
    cu_k = array("cu_k", ("int32",), params.num_seqs + 1)
    layout, longest = options.pop("kv_layout", "HND"), options.pop("max_kv_len", None)
    _need(where, (table is None) != (cu_k is None), "both or neither of page_table and cu_k", "one of them")
    head, token = _page_axes(where, layout)
    rank = 3 if table is None else 4
    keys = view(where, "k", k, _FLOATS, rank, stream)
    values = view(where, "v", v, (keys.dtype,), rank, stream)
    _shape(where, "v", values, keys.shape)
    for name, found in (("k", keys), ("v", values)):
        _same_device(where, name, found, device)
        _need(where, found.shape[-1] == params.head_dim, f"{name} with rows of {found.shape[-1]}",
              f"{params.head_dim}, as in q")
    params.kv_dtype, params.k, params.v = _DTYPE[keys.dtype], keys.ptr, values.ptr
    _set_count(where, params, "num_pages", keys.shape[0])
    if table is None:
        params.cu_k, params.num_kv_heads = cu_k.ptr, keys.shape[1]
        params.k_token_stride, params.k_head_stride = keys.strides[:2]
        params.v_token_stride, params.v_head_stride = values.strides[:2]
        held = keys.shape[0]
    else:
        params.num_kv_heads, params.page_size = keys.shape[head], keys.shape[token]
        params.k_page_stride, params.k_head_stride, params.k_token_stride = (
            keys.strides[0], keys.strides[head], keys.strides[token])
        params.v_page_stride, params.v_head_stride, params.v_token_stride = (
            values.strides[0], values.strides[head], values.strides[token])
        params.page_table, params.page_table_stride = table.ptr, table.strides[0]
        held = table.shape[1] * params.page_size
    _set_count(where, params, "max_kv_len", min(held, 2**31 - 1) if longest is None else longest)
    _set_count(where, params, "total_kv_len", options.pop("total_kv_len", None) or 0, 2**38)


def _page_axes(where, layout):
    """Where pages of this layout have the KV head and the token."""
    _need(where, layout in ("HND", "NHD"), f"kv_layout {layout!r}", "'HND' or 'NHD'")
    return (1, 2) if layout == "HND" else (2, 1)


def _set_numbers(where, params, array, options):
    for name, default in (("softmax_scale", params.head_dim ** -0.5), ("q_scale", 1.0), ("k_scale", 1.0),
                          ("v_scale", 1.0), ("skip_factor", 0.0)):
        value = options.pop(name, None)
        _need(where, value is None or isinstance(value, numbers.Real), f"{name} {value!r}", "a number")
        setattr(params, name, default if value is None else value)
    for name in ("window", "split_keys", "flags"):
        _set_count(where, params, name, options.pop(name, None) or 0)
    for name, dtypes, shape in (
            ("lse", ("float32",), (params.num_rows, params.num_heads)),
            ("skip_factors", ("float32",), (params.num_seqs,)),
            ("threshold_len", ("int32",), (params.num_seqs,)),
            ("counters", ("int64", "uint64"), (params.num_seqs, 4))):
        found = array(name, dtypes, *shape)
        if found is not None:
            if len(shape) > 1:
                _need(where, shape[0] < 2 or found.strides[0] == shape[1], f"{name} with stride {found.strides[0]}",
                      f"{shape[1]}, dense rows")
            setattr(params, name, found.ptr)


def _set_count(where, params, name, value, end=2**31):
    """ctypes would cut a number that is too large."""
    good = isinstance(value, numbers.Integral) and 0 <= value < end
    _need(where, good, f"{name} {value!r}", f"a whole number from 0 to {end - 1}")
    setattr(params, name, value)


def _need(where, holds, got, need):
    if not holds:
        _errors.refuse(where, got, need)


def _same_device(where, name, found, device):
    _need(where, found.device == device, f"{name} on cuda:{found.device}", f"cuda:{device}, where q is")


def _shape(where, name, found, shape):
    good = len(found.shape) == len(shape) and all(want in (None, got) for got, want in zip(found.shape, shape))
    _need(where, good, f"{name} of shape {list(found.shape)}",
          "[" + ", ".join("any" if want is None else str(want) for want in shape) + "]")


def _dense(where, name, tensor, dtype, shape, device, stream):
    found = view(where, name, tensor, (dtype,), len(shape), stream)
    _same_device(where, name, found, device)
    _shape(where, name, found, shape)
    step = 1
    for size, stride in zip(reversed(found.shape), reversed(found.strides)):
        _need(where, size < 2 or stride == step, f"{name} with stride {stride}", f"{step}, dense rows")
        step *= size
    return found.ptr
