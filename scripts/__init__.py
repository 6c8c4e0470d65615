"""What CI doesn't run each time: ``python -m scripts.bench`` measures, ``python -m scripts.soak`` wears out."""
