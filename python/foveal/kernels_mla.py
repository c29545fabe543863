"""Latent attention (MLA, DeepSeek Sparse Attention) for tensors of PyTorch: include/foveal/kernels_mla.h, in the
manner of foveal.kernels.

    cache = torch.zeros(pages, 64, 656, dtype=torch.uint8, device="cuda")    # or [pages, 64, 576] bfloat16
    kernels_mla.mla_store(latent, rope, cache, slots)
    out = kernels_mla.mla_attention(q, cache, indices=slots_of_each_row, softmax_scale=scale)
"""

import ctypes

from foveal import kernels
from foveal._tensors import view
from foveal.kernels import _call, _dense
from foveal.kernels import _needed_torch as _torch

HEAD_DIM, VALUE_DIM, FP8_ROW = 576, 512, 656
LOCAL = 1  # flags: indices are tokens of the row's sequence
FIXED_SPLITS = 2  # flags: parts by a row's own count alone, so a row does not depend on its batch

_PTR, _I32, _I64, _U32 = kernels._PTR, kernels._I32, kernels._I64, kernels._U32


class _Cache(ctypes.Structure):  # foveal_latent_cache
    _fields_ = [("data", _PTR), ("page_bytes", _I64), ("dtype", _I32), ("page_size", _I32), ("num_pages", _I32)]


class _Params(ctypes.Structure):  # foveal_mla_params
    _fields_ = [
        ("struct_size", _U32), ("num_rows", _I32), ("num_heads", _I32), ("max_keys", _I32),
        ("q", _PTR), ("q_row_stride", _I64), ("q_head_stride", _I64),
        ("out", _PTR), ("out_row_stride", _I64), ("out_head_stride", _I64), ("lse", _PTR), ("cache", _Cache),
        ("indices", _PTR), ("indices_stride", _I64), ("counts", _PTR), ("page_table", _PTR),
        ("page_table_stride", _I64), ("row_seq", _PTR), ("softmax_scale", ctypes.c_float), ("flags", _U32),
        ("splits", _I32), ("workspace", _PTR), ("workspace_bytes", ctypes.c_size_t),
    ]


class _Rows(ctypes.Structure):  # foveal_mla_rows_params
    _fields_ = [("struct_size", _U32), ("num_seqs", _I32), ("num_rows", _I32), ("cu_q", _PTR), ("kv_len", _PTR),
                ("counts", _PTR), ("row_seq", _PTR)]


class _Store(ctypes.Structure):  # foveal_mla_store_params
    _fields_ = [
        ("struct_size", _U32), ("num_rows", _I32), ("latent", _PTR), ("latent_stride", _I64), ("rope", _PTR),
        ("rope_stride", _I64), ("slots", _PTR), ("counts", _PTR), ("page_table", _PTR), ("page_table_stride", _I64),
        ("row_seq", _PTR), ("cache", _Cache),
    ]


def mla_attention(q, cache, *, softmax_scale, indices=None, counts=None, page_table=None, row_seq=None, local=False,
                  max_keys=None, out=None, lse=None, splits=0, flags=0, workspace=None, stream=None):
    """Attention of each row of q [rows, heads, 576] (bfloat16, absorbed) over latent rows. Returns out
    [rows, heads, 512].

    cache: [pages, page_size, 576] bfloat16, or [pages, page_size, 656] uint8
    indices [rows, k] int32: slots of the pool (page * page_size + offset), or with `local` tokens of the row's
        sequence; -1 is none. Without them a row attends to the first counts[r] tokens of its sequence
    counts [rows] int32: keys of each row; page_table [sequences, pages], row_seq [rows] int32
    max_keys: bound of counts; by default what indices or the page table hold
    lse [rows, heads] float32: where to write the logarithm of each sum
    flags: see FIXED_SPLITS"""
    where = "mla_attention"
    torch = _torch(where, q)
    handle = kernels._stream_handle(where, stream, q, torch)
    given = view(where, "q", q, ("bfloat16",), 3, handle)
    rows, heads, _ = given.shape
    kernels._shape(where, "q", given, (None, None, HEAD_DIM))
    if out is None:
        out = torch.empty((rows, heads, VALUE_DIM), device=q.device, dtype=q.dtype)
    result = view(where, "out", out, ("bfloat16",), 3, handle)
    kernels._same_device(where, "out", result, given.device)
    kernels._shape(where, "out", result, (rows, heads, VALUE_DIM))
    params = _Params(struct_size=ctypes.sizeof(_Params), num_rows=rows, num_heads=heads, q=given.ptr,
                     q_row_stride=given.strides[0], q_head_stride=given.strides[1], out=result.ptr,
                     out_row_stride=result.strides[0], out_head_stride=result.strides[1],
                     cache=_cache(where, cache, given.device, handle), softmax_scale=softmax_scale, splits=splits,
                     flags=flags | (LOCAL if local else 0))
    if lse is not None:
        params.lse = _dense(where, "lse", lse, "float32", (rows, heads), given.device, handle)
    held = 0
    if page_table is not None:
        params.page_table, params.page_table_stride, held = _table(where, page_table, cache, given.device, handle)
    if indices is not None:
        listed = view(where, "indices", indices, ("int32",), 2, handle)
        kernels._same_device(where, "indices", listed, given.device)
        kernels._shape(where, "indices", listed, (rows, None))
        params.indices, params.indices_stride, held = listed.ptr, listed.strides[0], listed.shape[1]
    params.max_keys = held if max_keys is None else max_keys
    for name, tensor in (("counts", counts), ("row_seq", row_seq)):
        if tensor is not None:
            setattr(params, name, _dense(where, name, tensor, "int32", (rows,), given.device, handle))
    kernels._give_workspace(where, "foveal_mla_workspace", params, params, workspace, q, handle, torch)
    _call("foveal_mla_attention", params, handle)
    return out


def mla_rows(kv_len, rows, *, cu_q=None, stream=None):
    """(counts, row_seq) of `rows` rows: of sequence s the last cu_q[s + 1] - cu_q[s] of its kv_len[s] tokens, or one
    without cu_q, each with the keys up to itself. Rows that no sequence has get count 0."""
    where = "mla_rows"
    torch = _torch(where, kv_len)
    handle = kernels._stream_handle(where, stream, kv_len, torch)
    lengths = view(where, "kv_len", kv_len, ("int32",), 1, handle)
    counts, row_seq = (torch.empty(rows, device=kv_len.device, dtype=torch.int32) for _ in range(2))
    params = _Rows(struct_size=ctypes.sizeof(_Rows), num_seqs=lengths.shape[0], num_rows=rows, kv_len=lengths.ptr,
                   counts=counts.data_ptr(), row_seq=row_seq.data_ptr())
    if cu_q is not None:
        params.cu_q = _dense(where, "cu_q", cu_q, "int32", (lengths.shape[0] + 1,), lengths.device, handle)
    _call("foveal_mla_rows", params, handle)
    return counts, row_seq


def mla_store(latent, rope, cache, slots, *, stream=None):
    """Writes latent [rows, 512] and rope [rows, 64] (bfloat16) to slots [rows] (int32) of the cache, -1 nowhere; into
    rows of 656 bytes rounded to e4m3 with a power of two for each 128 channels. Returns the cache."""
    where = "mla_store"
    handle = kernels._stream_handle(where, stream, latent, _torch(where, latent))
    first = view(where, "latent", latent, ("bfloat16",), 2, handle)
    second = view(where, "rope", rope, ("bfloat16",), 2, handle)
    rows = first.shape[0]
    kernels._shape(where, "latent", first, (None, VALUE_DIM))
    kernels._shape(where, "rope", second, (rows, HEAD_DIM - VALUE_DIM))
    params = _Store(struct_size=ctypes.sizeof(_Store), num_rows=rows, latent=first.ptr, latent_stride=first.strides[0],
                    rope=second.ptr, rope_stride=second.strides[0], cache=_cache(where, cache, first.device, handle),
                    slots=_dense(where, "slots", slots, "int32", (rows,), first.device, handle))
    _call("foveal_mla_store", params, handle)
    return cache


def _cache(where, cache, device, stream):
    found = view(where, "cache", cache, ("bfloat16", "uint8"), 3, stream)
    kernels._same_device(where, "cache", found, device)
    fp8 = found.dtype == "uint8"
    row = FP8_ROW if fp8 else HEAD_DIM
    kernels._shape(where, "cache", found, (None, None, row))
    kernels._need(where, found.strides[1] == row, f"cache with rows {found.strides[1]} apart", f"{row}, dense pages")
    return _Cache(data=found.ptr, page_bytes=found.strides[0] * (1 if fp8 else 2), dtype=2 if fp8 else 0,
                  page_size=found.shape[1], num_pages=found.shape[0])


def _table(where, page_table, cache, device, stream):
    found = view(where, "page_table", page_table, ("int32",), 2, stream)
    kernels._same_device(where, "page_table", found, device)
    return found.ptr, found.strides[0], found.shape[1] * cache.shape[1]
