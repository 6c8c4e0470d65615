"""Soak tests: what only shows after a hundred thousand messages, ten thousand interrupts or two hundred starts.

``mixed`` sends all kinds of requests to several subshells while workers are interrupted, killed and deleted, and checks
every answer. ``interrupts`` hits short cells at random moments. ``starts`` starts and ends kernels in all ways. Each
returns a `report.Part`: figures for people, and violations with what is needed to reproduce them.
"""
