"""DeepSeek Sparse Attention's lightning indexer for tensors of PyTorch: include/foveal/kernels_indexer.h, in the
manner of foveal.kernels.

    lane = kernels_indexer.index_keys(pages, page_size=64, device="cuda")
    q8, w = kernels_indexer.prepare(k, kv_len, q=q, weights=weights, page_table=table, keys=lane, page_size=64)
    scores = kernels_indexer.scores(q8, w, kv_len, page_table=table, keys=lane, page_size=64, max_kv_len=n)
"""

import ctypes

from foveal import kernels
from foveal._tensors import view
from foveal.kernels import _call, _dense
from foveal.kernels import _needed_torch as _torch

_PTR, _I32, _I64, _U32 = kernels._PTR, kernels._I32, kernels._I64, kernels._U32


class _Keys(ctypes.Structure):  # foveal_index_keys
    _fields_ = [("data", _PTR), ("page_bytes", _I64), ("page_size", _I32), ("num_pages", _I32)]


class _Prepare(ctypes.Structure):  # foveal_indexer_prepare_params
    _fields_ = [
        ("struct_size", _U32), ("num_seqs", _I32), ("num_rows", _I32), ("num_heads", _I32), ("head_dim", _I32),
        ("q", _PTR), ("q_row_stride", _I64), ("weights", _PTR), ("weights_row_stride", _I64),
        ("k", _PTR), ("k_row_stride", _I64),
        ("cu_q", _PTR), ("kv_len", _PTR), ("page_table", _PTR), ("page_table_stride", _I64),
        ("keys", _Keys), ("q_out", _PTR), ("weights_out", _PTR),
    ]


class _Scores(ctypes.Structure):  # foveal_indexer_scores_params
    _fields_ = [
        ("struct_size", _U32), ("num_seqs", _I32), ("num_rows", _I32), ("num_heads", _I32), ("head_dim", _I32),
        ("q", _PTR), ("weights", _PTR),
        ("cu_q", _PTR), ("kv_len", _PTR), ("page_table", _PTR), ("page_table_stride", _I64), ("max_kv_len", _I32),
        ("keys", _Keys), ("row_end", _PTR), ("first_position", _I32), ("row_begin", _I32), ("row_count", _I32),
        ("scores", _PTR), ("row_stride", _I64),
    ]


def index_keys(pages, *, page_size=64, head_dim=128, device="cuda"):
    """A lane of index keys: uint8 [pages, page_size * (head_dim + 4)], zeroed."""
    import torch
    return torch.zeros(pages, page_size * (head_dim + 4), dtype=torch.uint8, device=device)


def prepare(k, kv_len, *, page_table, keys, page_size, q=None, weights=None, cu_q=None, q_out=None, weights_out=None,
            stream=None):
    """Stores index keys `k` [rows, head_dim] (bfloat16, after LayerNorm and rope) of each sequence's newest tokens,
    and answers what `scores` takes for `q` [rows, heads, head_dim] and `weights` [rows, heads] float32: queries in
    float8_e4m3fn and their weights. Without `q`: keys alone, None."""
    where = "indexer_prepare"
    torch = _torch(where, k)
    handle = kernels._stream_handle(where, stream, k, torch)
    given = view(where, "k", k, ("bfloat16",), 2, handle)
    kernels._need(where, given.strides[1] == 1, f"k with stride {given.strides[1]}", "dense rows")
    params = _Prepare(struct_size=ctypes.sizeof(_Prepare), num_rows=given.shape[0], num_heads=8,
                      head_dim=given.shape[1], k=given.ptr, k_row_stride=given.strides[0])
    _set_seqs(where, params, kv_len, page_table, cu_q, keys, page_size, given.device, handle)
    if q is not None:
        found = view(where, "q", q, ("bfloat16",), 3, handle)
        rows, heads, dim = params.num_rows, found.shape[1], params.head_dim
        kernels._shape(where, "q", found, (rows, heads, dim))
        kernels._same_device(where, "q", found, given.device)
        kernels._need(where, found.strides[1:] == (dim, 1), f"q with strides {list(found.strides)}", "dense heads")
        params.num_heads, params.q, params.q_row_stride = heads, found.ptr, found.strides[0]
        params.weights = _dense(where, "weights", weights, "float32", (rows, heads), given.device, handle)
        params.weights_row_stride = heads
        if q_out is None:
            q_out = torch.empty(rows, heads, dim, dtype=torch.float8_e4m3fn, device=k.device)
        if weights_out is None:
            weights_out = torch.empty(rows, heads, dtype=torch.float32, device=k.device)
        params.q_out = _dense(where, "q_out", q_out, "float8_e4m3fn", (rows, heads, dim), given.device, handle)
        params.weights_out = _dense(where, "weights_out", weights_out, "float32", (rows, heads), given.device, handle)
    _call("foveal_indexer_prepare", params, handle)
    return None if q is None else (q_out, weights_out)


def scores(q, weights, kv_len, *, page_table, keys, page_size, max_kv_len, cu_q=None, row_end=None, first_position=0,
           rows=None, out=None, stream=None):
    """Scores float32 [rows, max_kv_len] of what `prepare` made; places that a row does not see are not written.

    row_end: int32 [rows], keys that each row sees instead of those up to its own
    first_position: rows at earlier positions are not scored; rows: (begin, count), a part of them"""
    where = "indexer_scores"
    torch = _torch(where, q)
    handle = kernels._stream_handle(where, stream, q, torch)
    found = view(where, "q", q, ("float8_e4m3fn",), 3, handle)
    shape = tuple(found.shape)
    begin, count = rows or (0, shape[0])
    if out is None:
        out = torch.empty(count, max_kv_len, dtype=torch.float32, device=q.device)
    target = view(where, "out", out, ("float32",), 2, handle)
    kernels._same_device(where, "out", target, found.device)
    kernels._need(where, target.shape[0] == count and target.shape[1] >= max_kv_len and target.strides[1] == 1,
                  f"out of shape {list(target.shape)}", f"dense rows of {max_kv_len}, {count} of them")
    params = _Scores(struct_size=ctypes.sizeof(_Scores), num_rows=shape[0], num_heads=shape[1], head_dim=shape[2],
                     max_kv_len=max_kv_len, first_position=first_position, row_begin=begin, row_count=count,
                     scores=target.ptr, row_stride=target.strides[0])
    params.q = _dense(where, "q", q, "float8_e4m3fn", shape, found.device, handle)
    params.weights = _dense(where, "weights", weights, "float32", shape[:2], found.device, handle)
    _set_seqs(where, params, kv_len, page_table, cu_q, keys, page_size, found.device, handle)
    if row_end is not None:
        params.row_end = _dense(where, "row_end", row_end, "int32", shape[:1], found.device, handle)
    _call("foveal_indexer_scores", params, handle)
    return out


def _set_seqs(where, params, kv_len, page_table, cu_q, keys, page_size, device, stream):
    lengths = view(where, "kv_len", kv_len, ("int32",), 1, stream)
    table = view(where, "page_table", page_table, ("int32",), 2, stream)
    lane = view(where, "keys", keys, ("uint8",), 2, stream)
    for name, tensor in (("kv_len", lengths), ("page_table", table), ("keys", lane)):
        kernels._same_device(where, name, tensor, device)
    need = page_size * (params.head_dim + 4)
    kernels._need(where, lane.shape[1] >= need and lane.strides[1] == 1, f"keys of shape {list(lane.shape)}",
                  f"[pages, {need}] of page_size {page_size}")
    params.num_seqs, params.kv_len = lengths.shape[0], lengths.ptr
    params.page_table, params.page_table_stride = table.ptr, table.strides[0]
    params.keys = _Keys(data=lane.ptr, page_bytes=lane.strides[0], page_size=page_size, num_pages=lane.shape[0])
    if cu_q is not None:
        params.cu_q = _dense(where, "cu_q", cu_q, "int32", (params.num_seqs + 1,), device, stream)
