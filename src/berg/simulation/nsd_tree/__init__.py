"""A simulated copy of the Natural Scenes Dataset, so that model building runs without it."""

from berg.simulation.nsd_tree.tree import simulate_nsd
from berg.simulation.nsd_tree.truth import Truth, load_truth

__all__ = ["Truth", "load_truth", "simulate_nsd"]
