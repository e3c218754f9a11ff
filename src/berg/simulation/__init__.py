"""A simulated subject, so that everything runs without a download."""

from berg.simulation.subject import SIMULATION_VERSION, simulate_subject

__all__ = ["SIMULATION_VERSION", "simulate_subject"]
