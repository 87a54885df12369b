"""A table's facts about its layers, measured again."""

from tapc.bench.configurations.measure import Setup
from tapc.bench.configurations.table import BenchTable
from tapc.flow.losses.facts import network_facts
from tapc.quantize import layer_distortion


def layer_facts(setup: Setup, table: BenchTable) -> BenchTable:
    """Return a table with its layers, statistics and built-in scores measured again; seconds of work.

    Parameters
    ----------
    setup : Setup
        Of the table's network.
    table : BenchTable
    """
    network, x = setup.network, setup.calibration_x
    distortion = layer_distortion(setup.model, network, setup.calibration, x)
    facts = network_facts(setup.model, network, setup.calibration, x, distortion)
    return table.model_copy(update={
        "layers": facts.layers, "interface": facts.interface, "statistics": facts.statistics, "scores": facts.scores,
    })  # fmt: skip
