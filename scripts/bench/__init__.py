"""Benchmarks against ipykernel: what a user feels, and the costs that the design promises to hold.

Each kernel is measured in turn (A B A B …) in fresh processes, so that what else the machine does hits all of them. A
measurement is a small function in a ``rows_*`` module, registered with `registry.measures`.
"""
