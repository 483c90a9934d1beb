"""Measurements of mergenode: generated models, other tools, speed and memory of the engine."""
