"""The HTTP port: probes, metrics, status. Reads committed facts only."""
