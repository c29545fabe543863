"""What kernels.py knows of a tensor: an address and a shape. From PyTorch's objects or any with DLPack;
neither package is needed to import this."""

import ctypes
from typing import NamedTuple

from foveal._errors import refuse

CUDA = 2  # DLPack's kDLCUDA
# DLPack's (code, bits) of the types the kernels know.
_DLPACK = {(0, 32): "int32", (0, 64): "int64", (1, 64): "uint64", (2, 16): "float16", (2, 32): "float32",
           (4, 16): "bfloat16", (10, 8): "float8_e4m3fn"}


class View(NamedTuple):
    ptr: int
    shape: tuple
    strides: tuple  # elements
    dtype: str
    device: int  # index of the GPU; None for memory of the host


class _Device(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("index", ctypes.c_int32)]


class _DType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _DLTensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device", _Device), ("ndim", ctypes.c_int32), ("dtype", _DType),
                ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
                ("byte_offset", ctypes.c_uint64)]


def _dense_strides(shape):
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def _from_torch(tensor):
    index = None
    if tensor.device.type == "cuda":
        index = tensor.device.index or 0
    return View(tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()),
                str(tensor.dtype).rpartition(".")[2], index)


def _from_dlpack(tensor, stream):
    if tensor.__dlpack_device__()[0] == CUDA:
        # 1 is DLPack's word for the default stream; the producer orders its work before this one's.
        capsule = tensor.__dlpack__(stream=stream or 1)
    else:
        capsule = tensor.__dlpack__()
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    found = ctypes.cast(get(capsule, b"dltensor"), ctypes.POINTER(_DLTensor)).contents
    shape = tuple(found.shape[axis] for axis in range(found.ndim))
    strides = _dense_strides(shape)
    if found.strides:
        strides = tuple(found.strides[axis] for axis in range(found.ndim))
    dtype = _DLPACK.get((found.dtype.code, found.dtype.bits)) if found.dtype.lanes == 1 else None
    if dtype is None:
        dtype = f"DLPack type {found.dtype.code} of {found.dtype.bits} bits"
    index = found.device.index if found.device.type == CUDA else None
    # The capsule goes here and with it the producer's export; `tensor` itself keeps the memory alive.
    return View((found.data or 0) + found.byte_offset, shape, strides, dtype, index)


def view(where, name, tensor, dtypes, rank, stream=0):
    """`tensor` as a View; raises unless it is one of `dtypes` and `rank`, on a GPU, with dense rows."""
    if hasattr(tensor, "data_ptr"):
        found = _from_torch(tensor)
    elif hasattr(tensor, "__dlpack__"):
        found = _from_dlpack(tensor, stream)
    else:
        refuse(where, f"{name} of type {type(tensor).__name__}", "a tensor with data_ptr() or __dlpack__()")
    if found.dtype not in dtypes:
        refuse(where, f"{name} of {found.dtype}", " or ".join(dtypes))
    if len(found.shape) != rank:
        refuse(where, f"{name} of shape {list(found.shape)}", f"{rank} dimensions")
    if found.device is None:
        refuse(where, f"{name} in host memory", "it on a GPU")
    if found.shape and found.shape[-1] > 1 and found.strides[-1] != 1:
        refuse(where, f"{name} with stride {found.strides[-1]} in its last dimension", "1")
    return found
