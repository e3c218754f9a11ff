"""Dicts of arrays in `numpy.save` files: read without running them, written for every NumPy."""
