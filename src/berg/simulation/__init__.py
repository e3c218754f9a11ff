"""A simulated subject, so that everything runs without a download."""

from berg.simulation.records import SIMULATION_VERSION
from berg.simulation.subject import simulate_subject

__all__ = ["SIMULATION_VERSION", "simulate_subject"]
