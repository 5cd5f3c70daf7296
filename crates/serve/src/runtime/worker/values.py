"""Tensors as they travel and as the class has them: the first part of the
worker's program, which `program.rs` puts together.
"""

import json
import os
import struct
import sys

_CODES = {
    "BOOL": "?", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
    "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q",
    "FP16": "e", "FP32": "f", "FP64": "d",
}
_DTYPES = {
    "BOOL": "?", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
    "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
    "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}
_NAMES = {"b1": "BOOL", "u1": "UINT8", "u2": "UINT16", "u4": "UINT32", "u8": "UINT64", "i1": "INT8",
          "i2": "INT16", "i4": "INT32", "i8": "INT64", "f2": "FP16", "f4": "FP32", "f8": "FP64"}


class Refused(Exception):
    """What the handler gave cannot be sent."""


def _nest(flat, shape):
    """A flat list as lists nested by shape; a scalar for an empty shape."""
    if not shape:
        return flat[0]
    for size in reversed(shape[1:]):
        flat = [flat[i:i + size] for i in range(0, len(flat), size)] if size else [[] for _ in range(shape[0])]
    return flat


def _texts(data):
    at, out = 0, []
    while at < len(data):
        (n,) = struct.unpack_from("<I", data, at)
        item = bytes(data[at + 4:at + 4 + n])
        try:
            out.append(item.decode())
        except UnicodeDecodeError:
            out.append(item)
        at += 4 + n
    return out


def _decode(tensors, numpy):
    inputs = {}
    while tensors:
        # Taken out, so that it goes as soon as it has been read.
        tensor, data = tensors.pop(0)
        datatype, shape = tensor["datatype"], tensor["shape"]
        if datatype == "BYTES":
            flat = _texts(data)
            if numpy:
                value = numpy.empty(len(flat), dtype=object)
                value[:] = flat
                value = value.reshape(shape)
            else:
                value = _nest(flat, shape)
        elif numpy:
            value = numpy.frombuffer(data, dtype=_DTYPES[datatype]).reshape(shape)
        else:
            code = _CODES[datatype]
            value = _nest(list(struct.unpack("<%d%s" % (len(data) // struct.calcsize("<" + code), code), data)), shape)
        inputs[tensor["name"]] = value
    return inputs


def _flatten(value, name):
    """The shape and the elements of lists that must be rectangular."""
    if not isinstance(value, (list, tuple)):
        return [], [value]
    parts = [_flatten(v, name) for v in value]
    if not parts:
        return [0], []
    if any(shape != parts[0][0] for shape, _ in parts):
        raise Refused("output '%s' is a list whose parts differ in shape" % name)
    return [len(parts)] + parts[0][0], [x for _, flat in parts for x in flat]


def _pack_texts(items, name):
    out = []
    for item in items:
        if isinstance(item, str):
            item = item.encode()
        if not isinstance(item, (bytes, bytearray)):
            raise Refused("output '%s' mixes strings with %s" % (name, type(item).__name__))
        out.append(struct.pack("<I", len(item)) + bytes(item))
    return b"".join(out)


def _encode_one(name, value, numpy):
    if not isinstance(value, (list, tuple, str, bytes, bool, int, float)):
        if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
            pass
        elif hasattr(value, "detach") and hasattr(value, "numpy"):
            value = value.detach().cpu().numpy()
        elif hasattr(value, "to_numpy"):
            value = value.to_numpy()
        elif hasattr(value, "tolist"):
            value = value.tolist()
        else:
            raise Refused("output '%s' is a %s; give a list, a number, a string or an array" % (name, type(value).__name__))
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        array = numpy.asarray(value)
        datatype = _NAMES.get(array.dtype.str[1:])
        if datatype is not None:
            if array.dtype.byteorder == ">":
                array = array.astype(_DTYPES[datatype])
            # A large one is written from where it is.
            if array.nbytes < 4096:
                return datatype, list(array.shape), array.tobytes()
            whole = numpy.ascontiguousarray(array)
            return datatype, list(array.shape), whole.reshape(-1).view(numpy.uint8).data
        if array.dtype.kind in "OUS":
            value = array.tolist()
            if isinstance(value, list) and not value:
                return "BYTES", list(array.shape), b""
        else:
            raise Refused("output '%s' has the dtype %s, which is not implemented" % (name, array.dtype))
    shape, flat = _flatten(value, name)
    if numpy is not None:
        flat = [x.item() if isinstance(x, numpy.generic) else x for x in flat]
    if flat and isinstance(flat[0], (str, bytes, bytearray)):
        return "BYTES", shape, _pack_texts(flat, name)
    if not all(isinstance(x, (bool, int, float)) for x in flat):
        odd = next(x for x in flat if not isinstance(x, (bool, int, float)))
        raise Refused("output '%s' holds a %s; give numbers, booleans or strings" % (name, type(odd).__name__))
    if flat and all(isinstance(x, bool) for x in flat):
        datatype = "BOOL"
    elif flat and all(isinstance(x, int) for x in flat):
        datatype = "INT64"
    else:
        datatype, flat = "FP64", [float(x) for x in flat]
    try:
        return datatype, shape, struct.pack("<%d%s" % (len(flat), _CODES[datatype]), *flat)
    except struct.error:
        raise Refused("output '%s' holds a number beyond 64 bits" % name)


def _encode(outputs, numpy):
    if not isinstance(outputs, dict):
        raise Refused("predict returned a %s; it must return a dict of output name to values" % type(outputs).__name__)
    head, parts = [], []
    for name, value in outputs.items():
        if not isinstance(name, str):
            raise Refused("predict returned a dict whose key %r is not a string" % (name,))
        datatype, shape, data = _encode_one(name, value, numpy)
        head.append({"name": name, "datatype": datatype, "shape": shape, "bytes": len(data)})
        parts.append(data)
    return {"outputs": head}, parts
