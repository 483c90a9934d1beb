"""The pool of checkpoints against a gradient: exact scores, sketches, trial models; everything streamed."""
