"""Every figure of the product: data in, a plotly figure out. The only place that imports plotly."""

from surgery.charts.bars import before_after, differences, layers, profile
from surgery.charts.cells import cells
from surgery.charts.curves import guarded, loss_curve, over_time, watched
from surgery.charts.figure import Figure
from surgery.charts.frontier import size_and_quality
from surgery.charts.layer_map import layer_map
from surgery.charts.legend import Legend, legend, stages
from surgery.charts.neurons import CONFIG, Mode, NeuronMap, neuron_map, picked
from surgery.charts.palette import GROUPED, class_colours, ink, ordered_colours
from surgery.charts.rates import quality_over_rate
from surgery.charts.spread import distribution, pair

__all__ = [
    "CONFIG",
    "GROUPED",
    "Figure",
    "Legend",
    "Mode",
    "NeuronMap",
    "before_after",
    "cells",
    "class_colours",
    "differences",
    "distribution",
    "guarded",
    "ink",
    "layer_map",
    "layers",
    "legend",
    "loss_curve",
    "neuron_map",
    "ordered_colours",
    "over_time",
    "pair",
    "picked",
    "profile",
    "quality_over_rate",
    "size_and_quality",
    "stages",
    "watched",
]
