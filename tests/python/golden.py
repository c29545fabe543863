"""Reads int32 tensors of a safetensors file, without numpy."""

import array
import json
import struct


def load(path):
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    out = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "I32":
            begin, end = entry["data_offsets"]
            out[name] = array.array("i", data[8 + size + begin : 8 + size + end]).tolist()
    return out
