"""What CI doesn't run each time: benchmarks (``python -m scripts.bench``) and soak tests (``python -m scripts.soak``)."""
