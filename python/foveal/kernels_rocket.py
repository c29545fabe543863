"""RocketKV's decode kernels for tensors of PyTorch: include/foveal/kernels_rocket.h, in the manner of
foveal.kernels.

    lane = torch.empty(pages, kv_heads, 64 // 4, 2, head_dim, dtype=torch.float8_e5m2, device="cuda")
    kernels_rocket.page_bounds(k_pages, kv_len, page_table=table, bounds=lane)
    out = kernels_rocket.rocket_decode(q, k_pages, v_pages, kv_len, page_table=table, bounds=lane, topk=64)
"""

import ctypes

from foveal import kernels
from foveal._tensors import view
from foveal.kernels import _call, _dense
from foveal.kernels import _needed_torch as _torch

GROUP_MAX = 1  # flags: a page ranks by its best query head, not by their sum

_PTR, _I32, _I64, _U32 = kernels._PTR, kernels._I32, kernels._I64, kernels._U32
_STORED = {"bfloat16": 0, "float8_e5m2": 1}
_KINDS = {"minmax": 0, "mean_std": 1}


class _Lane(ctypes.Structure):  # foveal_page_bounds
    _fields_ = [("data", _PTR), ("page_stride", _I64), ("dtype", _I32), ("page_tokens", _I32), ("kind", _I32)]


class _Bounds(ctypes.Structure):  # foveal_bounds_params
    _fields_ = [
        ("struct_size", _U32), ("kv_dtype", _I32),
        ("k", _PTR), ("k_page_stride", _I64), ("k_head_stride", _I64), ("k_token_stride", _I64),
        ("num_seqs", _I32), ("num_kv_heads", _I32), ("head_dim", _I32), ("page_size", _I32), ("max_q_len", _I32),
        ("cu_q", _PTR), ("kv_len", _PTR), ("page_table", _PTR), ("page_table_stride", _I64), ("bounds", _Lane),
    ]


class _Decode(ctypes.Structure):  # foveal_rocket_params
    _fields_ = [
        ("struct_size", _U32), ("topk", _I32), ("attention", kernels._Params), ("bounds", _Lane),
        ("num_channels", _I32), ("sink_pages", _I32), ("recent_pages", _I32),
        ("candidates", _PTR), ("candidates_offset", _I64), ("candidates_stride", _I64),
        ("pages", _PTR), ("count", _PTR), ("ranks", _PTR), ("ranks_stride", _I64), ("flags", _U32),
    ]


def rocket_decode(q, k, v, kv_len, *, bounds, topk, page_table, num_channels=0, sink_pages=0, recent_pages=0,
                  kind="minmax", pages=None, count=None, group_max=False, out=None, workspace=None, stream=None,
                  **options):
    """Attention of one query a sequence over the `topk` best pages of each KV head. Returns `out`.

    bounds: the lane, [pages, kv_heads, page_size / page_tokens, 2, head_dim] in float8_e5m2 or bfloat16
    num_channels: query channels that scores use (0: all); sink_pages, recent_pages: always taken
    pages [sequences, kv_heads, topk], count [sequences, kv_heads] int32: where to write what was taken
    The rest is as in foveal.kernels.attention_decode."""
    where = "rocket_decode"
    torch = _torch(where, q)
    handle = kernels._stream_handle(where, stream, q, torch)
    options = dict(options, page_table=page_table)
    attention, device = kernels._params("decode", q, k, v, kv_len, options, handle)
    if out is None:
        out = torch.empty(q.shape, device=q.device, dtype=torch.bfloat16 if attention.q_dtype == 2 else q.dtype)
    kernels._set_out(where, attention, out, device, handle)
    params = _Decode(struct_size=ctypes.sizeof(_Decode), attention=attention,
                     bounds=_lane(where, bounds, attention.page_size, kind, device, handle),
                     flags=GROUP_MAX if group_max else 0)
    for name, value in (("topk", topk), ("num_channels", num_channels), ("sink_pages", sink_pages),
                        ("recent_pages", recent_pages)):
        kernels._set_count(where, params, name, value)
    rows = (attention.num_seqs, attention.num_kv_heads)
    for name, tensor, shape in (("pages", pages, (*rows, topk)), ("count", count, rows)):
        if tensor is not None:
            setattr(params, name, _dense(where, name, tensor, "int32", shape, device, handle))
    kernels._give_workspace(where, "foveal_rocket_decode_workspace", params, params.attention, workspace, q, handle,
                            torch)
    _call("foveal_rocket_decode", params, handle)
    return out


def page_bounds(k, kv_len, *, page_table, bounds, kind="minmax", cu_q=None, kv_layout="HND", max_q_len=None,
                stream=None):
    """Fills `bounds` (see rocket_decode) for the pages that hold the last cu_q[s + 1] - cu_q[s] tokens of each
    sequence, or without cu_q for all. Returns `bounds`."""
    where = "rocket_bounds"
    handle = kernels._stream_handle(where, stream, k, _torch(where, k))
    head, token = kernels._page_axes(where, kv_layout)
    keys = view(where, "k", k, kernels._FLOATS, 4, handle)
    lengths = view(where, "kv_len", kv_len, ("int32",), 1, handle)
    table = view(where, "page_table", page_table, ("int32",), 2, handle)
    for name, found in (("kv_len", lengths), ("page_table", table)):
        kernels._same_device(where, name, found, keys.device)
    kernels._shape(where, "page_table", table, (lengths.shape[0], None))
    page_size = keys.shape[token]
    params = _Bounds(struct_size=ctypes.sizeof(_Bounds), kv_dtype=kernels._DTYPE[keys.dtype], k=keys.ptr,
                     k_page_stride=keys.strides[0], k_head_stride=keys.strides[head],
                     k_token_stride=keys.strides[token], num_seqs=lengths.shape[0], num_kv_heads=keys.shape[head],
                     head_dim=keys.shape[3], page_size=page_size, kv_len=lengths.ptr, page_table=table.ptr,
                     page_table_stride=table.strides[0],
                     bounds=_lane(where, bounds, page_size, kind, keys.device, handle))
    kernels._set_count(where, params, "max_q_len", table.shape[1] * page_size if max_q_len is None else max_q_len)
    if cu_q is not None:
        params.cu_q = _dense(where, "cu_q", cu_q, "int32", (params.num_seqs + 1,), keys.device, handle)
    _call("foveal_rocket_bounds", params, handle)
    return bounds


def _lane(where, bounds, page_size, kind, device, stream):
    found = view(where, "bounds", bounds, tuple(_STORED), 5, stream)
    kernels._same_device(where, "bounds", found, device)
    kernels._need(where, kind in _KINDS, f"kind {kind!r}", "'minmax' or 'mean_std'")
    pages = found.shape[2]
    dense = found.strides[4] == 1 and found.strides[3] == found.shape[4] and found.strides[2] == 2 * found.shape[4]
    kernels._need(where, dense and pages > 0 and page_size % pages == 0 and
                  found.strides[1] == pages * found.strides[2], f"bounds of shape {list(found.shape)}",
                  "a dense [pages, kv_heads, page_size / page_tokens, 2, head_dim]")
    return _Lane(data=found.ptr, page_stride=found.strides[0], dtype=_STORED[found.dtype],
                 page_tokens=page_size // pages, kind=_KINDS[kind])
