"""The projection kernel beside a literal fold: CPU seconds of one matrix, one thread."""
