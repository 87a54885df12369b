"""The statistics table: what a proxy program sees of a network. Numbers, never tensors, gradients or Hessians.

Version 3. A table is a list with one row per layer with weights, in execution order; a row maps column names to a
number, a text or, for channel columns, a list with one number per output channel. Channel columns are only handed over
to programs whose code has "channel_" in it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

VERSION = 3

Mode = Literal["statistics", "metadata"]
Cell = str | float | list[float]
Row = dict[str, Cell]
Table = list[Row]

SAMPLES = 16
"""Calibration samples that the statistics are taken over (arXiv 2512.07419, Table 2)."""

INF = math.inf


@dataclass(frozen=True)
class Column:
    """A column of the statistics table.

    Attributes
    ----------
    name, unit, meaning : str
    low, high : float
        Range, ends included where they are finite.
    mode : {"metadata", "statistics"}
        `metadata` columns describe the architecture alone and are visible in both modes.
    scope : {"layer", "channel"}
        A channel column holds one number per output channel.
    text : bool
        The cell is a text.
    """

    name: str
    unit: str
    meaning: str
    low: float = 0.0
    high: float = INF
    mode: Mode = "statistics"
    scope: Literal["layer", "channel"] = "layer"
    text: bool = False


def _meta(name: str, unit: str, meaning: str, low: float = 0.0, high: float = INF, *, text: bool = False) -> Column:
    return Column(name, unit, meaning, low, high, "metadata", text=text)


def _channel(name: str, unit: str, meaning: str, low: float = 0.0, high: float = INF) -> Column:
    return Column(name, unit, meaning, low, high, scope="channel")


COLUMNS: tuple[Column, ...] = (
    _meta("name", "", "name of the layer", text=True),
    _meta("op", "", '"conv", "depthwise" or "dense"', text=True),
    _meta("index", "", "position among the layers with weights, from 0"),
    _meta("layers", "", "how many layers with weights the network has", 1),
    _meta("depth", "", "index / (layers - 1): 0 for the first layer, 1 for the last", 0, 1),
    _meta("kernel_h", "pixels", "height of the kernel; 1 for dense layers", 1),
    _meta("kernel_w", "pixels", "width of the kernel; 1 for dense layers", 1),
    _meta("stride", "pixels", "vertical stride; 1 for dense layers", 1),
    _meta("groups", "", "groups of the convolution; 1 for dense layers", 1),
    _meta("in_channels", "", "input channels or features", 1),
    _meta("out_channels", "", "output channels or features", 1),
    _meta("parameters", "weights", "number of weights, biases excluded", 1),
    _meta("macs", "MACs", "multiply-accumulates per inference; 0 for tables"),
    _meta("parameter_share", "", "parameters over those of all layers", 0, 1),
    _meta("mac_share", "", "macs over those of all layers", 0, 1),
    _meta("input_size", "elements", "elements of the layer's input", 1),
    _meta("output_size", "elements", "elements of the layer's output", 1),
    _meta("output_height", "pixels", "height of the output; 1 for dense layers", 1),
    _meta("output_width", "pixels", "width of the output; 1 for dense layers", 1),
    _meta("first", "", "1 for the first layer, otherwise 0", 0, 1),
    _meta("last", "", "1 for the last layer, otherwise 0", 0, 1),
    _meta("residual", "", "1 where the output, after its activation function, enters an addition", 0, 1),
    _meta("relu", "", "1 where a Relu or Clip follows directly", 0, 1),
    Column("weight_l1", "", "sum of the weights' absolute values"),
    Column("weight_l2", "", "Frobenius norm of the weights"),
    Column("weight_max", "", "largest absolute weight"),
    Column("weight_std", "", "standard deviation of the weights"),
    Column("weight_kurtosis", "", "fourth standardized moment of the weights (3 for a normal distribution)"),
    Column("weight_entropy", "bits", "entropy of a 256-bin histogram of the weights between their extremes", 0, 8),
    Column("weight_range_ratio", "", "largest absolute weight over the median of the channels' largest ones", 1),
    Column("weight_error_2", "", "squared error of the weights rounded to 2 bits over their squared norm"),
    Column("weight_error_4", "", "the same at 4 bits"),
    Column("weight_error_8", "", "the same at 8 bits"),
    Column("input_min", "", "smallest input value", -INF),
    Column("input_max", "", "largest input value", -INF),
    Column("input_mean", "", "mean input value", -INF),
    Column("input_std", "", "standard deviation of the input"),
    Column("input_entropy", "bits", "entropy of a 256-bin histogram of the input between its extremes", 0, 8),
    Column("input_sparsity", "", "share of input values that are zero", 0, 1),
    Column("input_kurtosis", "", "fourth standardized moment of the input"),
    Column("input_error_4", "", "squared error of the input rounded to 4 bits over its squared norm"),
    Column("input_error_8", "", "the same at 8 bits"),
    Column("output_mean", "", "mean output value before the activation function", -INF),
    Column("output_std", "", "standard deviation of the output before the activation function"),
    Column("output_max", "", "largest absolute output value before the activation function"),
    Column("output_entropy", "bits", "entropy of a 256-bin histogram of the output between its extremes", 0, 8),
    Column("output_error_2", "", "squared error of the layer's own output at 2-bit weights over its squared norm"),
    Column("output_error_4", "", "the same at 4-bit weights"),
    Column("output_error_8", "", "the same at 8-bit weights"),
    _meta("readers", "", "operators that read the output, after its activation function; 0 for the network's output"),
    _meta("activation", "", 'the activation function right behind: "none", "relu", "clip", "sigmoid", ...', text=True),
    _meta("next_op", "", 'op of the first layer with weights that reads the output, or "none"', text=True),
    _meta("average_pooled", "elements", "how many values the pooling right behind averages; 1 where there is none", 1),
    _meta("max_pooled", "elements", "of how many values the pooling right behind takes the largest; 1 for none", 1),
    _meta("output_pixels", "elements", "places of the output: height x width, or tokens; 1 for features", 1),
    _meta("layers_behind", "", "layers with weights on the shortest way from here to an output of the network"),
    _meta("width_before", "", "most output channels of the layers that this one reads; 0 for the network's input"),
    _meta("width_behind", "", "most output channels of the layers that read the output; 0 where there are none"),
    Column("addition_share", "", "where the output enters an addition: its sum of squares over that of all operands; "
           "otherwise 1", 0, 1),
    Column("activation_slope", "", "mean squared slope of the activation function: of a Relu or Clip the share of "
           "values that it passes; 1 where there is none"),
    Column("downstream_gain", "", "relative squared error of the logits over that of the layer's own output, predicted "
           "from norms and Relus for errors that are independent between channels and alike over a pooling"),
    Column("logit_gain", "", "relative squared error of the logits over that of the layer's own output, by gradients, "
           "for errors that are independent between places and alike in size in all channels"),
    Column("logit_gain_alike", "", "the same for errors that are equal at all places of a channel"),
    Column("gptq_error_2", "", "squared error of the layer's own output over its variance, with weights that gptq "
           "rounded to 2 bits on other samples"),
    Column("gptq_error_4", "", "the same at 4 bits"),
    _channel("channel_weight_l2", "", "norm of each output channel's weights"),
    _channel("channel_weight_max", "", "largest absolute weight of each output channel"),
    _channel("channel_weight_error_2", "", "relative squared error of each output channel's weights at 2 bits"),
    _channel("channel_output_mean", "", "mean of each output channel before the activation function", -INF),
    _channel("channel_output_std", "", "standard deviation of each output channel before the activation function"),
    _channel("channel_logit_gain", "", "relative squared error of the logits over an error of each output channel, "
             "which is given as channel_gptq_error_2 is: the sum of their products is the error of the logits"),
    _channel("channel_gptq_error_2", "", "what each output channel adds to gptq_error_2"),
    _channel("channel_gptq_error_4", "", "what each output channel adds to gptq_error_4"),
)  # fmt: skip


def columns(mode: Mode) -> tuple[Column, ...]:
    """Return the columns that a program sees in a mode."""
    return tuple(column for column in COLUMNS if mode == "statistics" or column.mode == "metadata")


def view(table: Sequence[Row], mode: Mode) -> Table:
    """Return what a program sees of a table in a mode."""
    if mode == "statistics":
        return [dict(row) for row in table]
    visible = {column.name for column in columns(mode)}
    return [{name: cell for name, cell in row.items() if name in visible} for row in table]


def check_table(table: Sequence[Row]) -> None:
    """Raise ValueError where a table lacks a column, has an unknown one, or a cell outside its range."""
    names = [column.name for column in COLUMNS]
    for row in table:
        if list(row) != names:
            raise ValueError(f"columns {sorted(set(row) ^ set(names)) or 'in another order'}")
        for column in COLUMNS:
            cell = row[column.name]
            cells: list[object] = list(cell) if isinstance(cell, list) else [cell]
            if isinstance(cell, list) != (column.scope == "channel"):
                raise ValueError(f"{column.name}: {cell!r} does not fit a {column.scope} column")
            for value in cells:
                text = isinstance(value, str)
                if text != column.text:
                    raise ValueError(f"{column.name}: {value!r}")
                if isinstance(value, int | float) and not (math.isfinite(value) and column.low <= value <= column.high):
                    raise ValueError(f"{column.name}: {value!r} is outside [{column.low:g}, {column.high:g}]")
