"""Does the worst to a kernel, and says what is left of it: ``python -m scripts.faults``."""
