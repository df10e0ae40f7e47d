"""Schema rows of the relative Fisher information."""

from __future__ import annotations

from fisherstats.core.schema.row import Variable

__all__ = ["RELATIVE"]

RELATIVE = {
    "relative_neuron": Variable(
        "metric",
        "[input] unit feature feature2",
        "g(w_o|h_l)",
        "relative Fisher information of each neuron's weights, given the layer's input",
        "relative-fisher",
    ),
    "relative_layer": Variable(
        "metric",
        "[input] param param2",
        "g(W_l|h_l)",
        "relative Fisher information of a layer's weights, given the layer's input",
        "relative-layer",
    ),
    "zone_coefficient": Variable(
        "coefficient", "input unit", "nu_f(w, h)", "relative Fisher information of a unit's pre-activation", "relative-fisher"
    ),
    "zone_pre_activation": Variable("pre_activation", "input unit", "a", "pre-activation of a unit", "relative-fisher"),
    "zone_largest": Variable(
        "largest",
        "unit",
        "sup nu_f",
        "largest coefficient that the unit's activation allows (NaN for the outputs, where it depends on the family)",
        "learning-zone",
    ),
}
