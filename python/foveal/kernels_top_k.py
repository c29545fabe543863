"""The exact top-k kernel for tensors of PyTorch: include/foveal/kernels_top_k.h, in the manner of foveal.kernels.

    indices = kernels_top_k.top_k(scores, 2048, lengths=kv_len)
    slots = torch.empty_like(indices)
    kernels_top_k.top_k(scores, 2048, lengths=kv_len, slots=slots, page_table=table, page_size=64)
"""

import ctypes

from foveal import kernels
from foveal._tensors import view
from foveal.kernels import _call, _dense
from foveal.kernels import _needed_torch as _torch

RADIX = 1  # flags: every row by radix selection, without a guess

_PTR, _I32, _I64, _U32 = kernels._PTR, kernels._I32, kernels._I64, kernels._U32


class _TopK(ctypes.Structure):  # foveal_top_k_params
    _fields_ = [
        ("struct_size", _U32), ("num_rows", _I32), ("values", _PTR), ("row_stride", _I64), ("lengths", _PTR),
        ("rows_a_length", _I32), ("max_length", _I32), ("k", _I32), ("indices", _PTR), ("indices_stride", _I64),
        ("counts", _PTR), ("flags", _U32), ("page_size", _I32), ("starts", _PTR), ("slots", _PTR),
        ("page_table", _PTR), ("page_table_stride", _I64), ("row_seq", _PTR), ("counters", _PTR),
    ]


def top_k(values, k, *, indices=None, lengths=None, starts=None, counts=None, slots=None, page_table=None,
          page_size=0, row_seq=None, counters=None, radix=False, stream=None):
    """Indices [rows, k] int32 of the k largest of each row of float32 `values`, of equals the lowest, ascending, then
    -1. Exact; NaN counts as -inf.

    lengths, starts [rows / n] int32: a row's values are columns [starts, lengths), n rows to an entry; indices count
    from the first of them
    counts [rows] int32: where to write how many were taken
    slots [rows, k] int32: where to write page_table[s][i / page_size] * page_size + i % page_size for each index i,
    with s of `row_seq` [rows] int32, else as for lengths; page_table [sequences, pages] int32
    counters [2] int64, added to: rows, and those of them that radix selection went over again
    radix: every row by radix selection"""
    where = "top_k"
    torch = _torch(where, values)
    handle = kernels._stream_handle(where, stream, values, torch)
    given = view(where, "values", values, ("float32",), 2, handle)
    rows, device = given.shape[0], given.device
    if indices is None:
        indices = torch.empty((rows, k), device=values.device, dtype=torch.int32)
    params = _TopK(struct_size=ctypes.sizeof(_TopK), num_rows=rows, values=given.ptr, row_stride=given.strides[0],
                   rows_a_length=1, max_length=given.shape[1], k=k, indices_stride=k, flags=RADIX if radix else 0,
                   page_size=page_size)
    sequences = None
    if page_table is not None:
        table = view(where, "page_table", page_table, ("int32",), 2, handle)
        kernels._same_device(where, "page_table", table, device)
        kernels._need(where, table.strides[1] == 1, f"page_table with stride {table.strides[1]}", "1, dense rows")
        params.page_table, params.page_table_stride = table.ptr, table.strides[0]
        sequences = table.shape[0] if row_seq is None else None
    kernels._need(where, starts is None or lengths is not None, "starts without lengths", "both")
    entries = lengths.shape[0] if lengths is not None else sequences
    if entries is not None:
        kernels._need(where, 0 < entries <= rows and rows % entries == 0, f"{entries} lengths or tables for {rows} rows",
                      "as many rows to each")
        params.rows_a_length = rows // entries
    for name, tensor, dtype, shape in (
            ("indices", indices, "int32", (rows, k)), ("lengths", lengths, "int32", (entries,)),
            ("starts", starts, "int32", (entries,)), ("counts", counts, "int32", (rows,)),
            ("slots", slots, "int32", (rows, k)), ("row_seq", row_seq, "int32", (rows,)),
            ("counters", counters, "int64", (2,))):
        if tensor is not None:
            setattr(params, name, _dense(where, name, tensor, dtype, shape, device, handle))
    _call("foveal_top_k", params, handle)
    return indices
