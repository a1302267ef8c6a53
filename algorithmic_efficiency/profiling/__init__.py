"""Traces of profilers: making them for a run, and reading kernel statistics out of any of them."""
