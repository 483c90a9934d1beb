"""What operators see of bad contributions before users do: drift, alerts, scores. ``python -m benchmarks.drift``."""
