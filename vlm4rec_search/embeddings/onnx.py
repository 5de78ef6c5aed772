"""Networks in ONNX files, run by ONNX Runtime on the CPU."""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from vlm4rec_search.common.concurrency import usable_cores
from vlm4rec_search.common.errors import RunError, first_line

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_FOLDER = "session.model_external_initializers_file_folder_path"


def load_network(path: Path) -> "InferenceSession":
    """Return the network of an ONNX file. Its threads sleep while they wait, so that other work is not slowed.

    ONNX Runtime is given the network without its weights, which it maps from the file: otherwise they stand in memory
    twice while it loads (all-MiniLM-L6-v2: 140 MB against 55). The vectors are the same, bit by bit.

    Raises:
        RunError: the file cannot be loaded.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)  # errors only; warnings are about optimisations and graphics cards
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry(_FOLDER, str(path.resolve().parent))
    try:
        return onnxruntime.InferenceSession(point_to_weights(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no common class of errors
        raise RunError(f"the network {path} cannot be loaded: {first_line(error)}") from None


# Numbers of fields in onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
_GRAPH, _INITIALIZER = 7, 5  # of a ModelProto, of its GraphProto
_RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 9, 13, 14  # of a TensorProto
_EXTERNAL = 1  # value of a data location
_SMALL = 1_024  # bytes; ONNX Runtime needs small numbers, such as shapes, in the network itself


def point_to_weights(path: Path) -> bytes:
    """Return an ONNX file whose weights are replaced by where they stand in the file: name, offset and length.

    Raises:
        OSError: the file cannot be read.
        IndexError, ValueError: it is no ONNX file.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        model = bytearray()
        for part in _fields(data, 0, len(data)):
            if part.number != _GRAPH:
                model += data[part.start : part.end]
                continue
            graph = bytearray()
            for inner in _fields(data, part.content, part.end):
                is_weight = inner.number == _INITIALIZER
                graph += _tensor(data, inner, path.name) if is_weight else data[inner.start : inner.end]
            model += _message(_GRAPH, graph)
        return bytes(model)


class _Field(NamedTuple):
    """A field of a protobuf message: its number, where it begins, where its content begins, and where it ends."""

    number: int
    start: int
    content: int
    end: int


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[_Field]:
    """Yield the fields of a message (https://protobuf.dev/programming-guides/encoding)."""
    while start < end:
        key, content = _varint(data, start)
        kind = key & 7
        if kind == 0:
            _, stop = _varint(data, content)
        elif kind == 2:
            length, content = _varint(data, content)
            stop = content + length
        elif kind in (1, 5):
            stop = content + (8 if kind == 1 else 4)
        else:
            raise ValueError("no ONNX file")
        if stop > end:
            raise ValueError("the file ends too early")
        yield _Field(key >> 3, start, content, stop)
        start = stop


def _tensor(data: mmap.mmap, tensor: _Field, name: str) -> bytes:
    kept, raw = bytearray(), None
    for part in _fields(data, tensor.content, tensor.end):
        if part.number == _RAW_DATA and part.end - part.content >= _SMALL:
            raw = part
        else:
            kept += data[part.start : part.end]
    if raw is not None:
        place = {"location": name, "offset": str(raw.content), "length": str(raw.end - raw.content)}
        for key, value in place.items():
            kept += _message(_EXTERNAL_DATA, _message(1, key.encode()) + _message(2, value.encode()))
        kept += _encoded(_DATA_LOCATION << 3) + _encoded(_EXTERNAL)
    return _message(_INITIALIZER, kept)


def _varint(data: mmap.mmap, start: int) -> tuple[int, int]:
    """Return a number and where it ends."""
    value = shift = 0
    while True:
        byte = data[start]
        start += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, start


def _encoded(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(digits) + bytes([value])


def _message(number: int, content: bytes | bytearray) -> bytes:
    return _encoded(number << 3 | 2) + _encoded(len(content)) + content
