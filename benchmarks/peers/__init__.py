"""The same merges by mergenode and by other tools: CPU, wall time, memory, and the weights compared."""
