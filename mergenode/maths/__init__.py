"""Shared numerical kernels. Pure: no I/O, no logging, no clock, no global state.

Bits are reproducible for a given number of BLAS threads; who wants the same bits on every machine runs each
tensor on one thread (``torch.set_num_threads(1)``, ``OPENBLAS_NUM_THREADS=1``) and spreads tensors over
threads instead.
"""
