"""Networks made ready for bfloat16, so that they keep float32's neighbours.

bfloat16 keeps eight significant bits. What it costs a convolutional network is not noise, which averages out over a
picture, but two errors that are the same everywhere in it (docs/performance.md has the figures):

- Every weight is rounded by itself, and the errors of one filter do not cancel. Most of a product's picture is smooth:
  there a filter sees nearly one value under all its weights, and answers wrongly by the sum of their errors.
  `balanced` rounds some weights to their second-nearest value, so that each filter's errors sum to about nothing; so
  does SQuant for integers (Guo et al., "SQuant: On-the-Fly Data-Free Quantization", 2022).
- Normalised pixels are rounded: white, (255 - 124) / 58 = 2.2489, becomes 2.25. But whole numbers up to 256 are exact,
  so the network is given pixels less a whole number, and its first filters do the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops
from openvino._offline_transformations import apply_moc_transformations

_BIAS = np.uint32(0x7FFF)
_KEPT = np.uint32(0xFFFF0000)


def balanced(filters: NDArray[np.float32]) -> NDArray[np.float32]:
    """Filters (n, weights) rounded to bfloat16, the errors of each summing to as little as single changes can reach.

    No weight moves further than to the value on its other side.
    """
    nearest = rounded(filters)
    below = (filters.view(np.uint32) & _KEPT).view(np.float32)  # towards nought
    above = ((filters.view(np.uint32) & _KEPT) + np.uint32(0x10000)).view(np.float32)
    other = np.where(nearest == below, above, below)
    step = other.astype(np.float64) - nearest
    error = (nearest.astype(np.float64) - filters).sum(axis=1)
    result = nearest.copy()
    at = np.arange(len(filters))
    while len(at):  # in every filter still at work, the one change that helps most
        left = np.abs(error[at, None] + step[at])
        best = left.argmin(axis=1)
        helps = left[np.arange(len(at)), best] < np.abs(error[at])
        at, best = at[helps], best[helps]
        result[at, best] = other[at, best]
        error[at] += step[at, best]
        step[at, best] = np.inf  # not twice
    return result


def rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each value's nearest bfloat16, ties to even, as float32."""
    bits = values.view(np.uint32)
    return ((bits + _BIAS + ((bits >> np.uint32(16)) & np.uint32(1))) & _KEPT).view(np.float32)


def made_ready(model: ov.Model) -> ov.Model:
    """A copy of the network whose convolutions lose little in bfloat16."""
    model = model.clone()
    apply_moc_transformations(model, cf=False)  # what a compiler does later anyway: weights take in what follows them
    _take_whole_pixels(model)
    for node in model.get_ordered_ops():
        if node.get_type_name() not in ("Convolution", "GroupConvolution"):
            continue
        weights = _constant(node.input(1))
        if weights is None:
            continue
        # (outputs, inputs, height, width), or (groups, outputs, inputs, height, width)
        values = np.array(weights.get_data(), dtype=np.float32)
        filters = values.reshape(-1, int(np.prod(values.shape[-3:])))
        _replace(weights, balanced(filters).reshape(values.shape))
    model.validate_nodes_and_infer_types()
    return model


def _take_whole_pixels(model: ov.Model) -> None:
    """Where pixels times a scale plus an offset go into one convolution: subtract whole numbers instead.

    The filters take the scale, their bias what the whole numbers lack. Where pictures are padded with the mean's
    colour, the padding becomes the nearest whole number's.
    """
    convolution = next((node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"), None)
    if convolution is None:
        return
    added = convolution.input(0).get_source_output().get_node()
    times = added.input(0).get_source_output().get_node() if added.get_type_name() == "Add" else added
    bias = next(iter(convolution.output(0).get_target_inputs())).get_node()
    if [node.get_type_name() for node in (added, times, bias)] != ["Add", "Multiply", "Add"]:
        return
    ports = (added.input(1), times.input(1), convolution.input(1), bias.input(1))
    constants = [constant for port in ports if (constant := _constant(port))]
    if len(constants) < len(ports):
        return
    offset, scale, weights, biases = (np.array(constant.get_data(), np.float64) for constant in constants)
    if offset.size != 3 or scale.size != 3 or weights.ndim != 4 or weights.shape[1] != 3:
        return
    mean = (-offset / scale).reshape(1, 3, 1, 1)
    whole = np.rint(mean)
    scaled = weights * scale.reshape(1, 3, 1, 1)
    missing = (scaled * (whole - mean)).sum(axis=(1, 2, 3))
    pixels = ops.subtract(times.input(0).get_source_output(), ops.constant(whole.astype(np.float32)))
    convolution.input(0).replace_source_output(pixels.output(0))
    _replace(constants[2], scaled)
    _replace(constants[3], biases + missing.reshape(biases.shape))


def _constant(port: Any) -> Any | None:
    """The constant behind an input, through a change of its shape."""
    node = port.get_source_output().get_node()
    while node.get_type_name() == "Reshape":
        node = node.input(0).get_source_output().get_node()
    return node if node.get_type_name() == "Constant" else None


def _replace(constant: Any, values: NDArray[Any]) -> None:
    constant.output(0).replace(ops.constant(values.astype(np.float32)).output(0))
