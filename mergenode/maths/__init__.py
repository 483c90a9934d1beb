"""Shared numerical kernels. Pure: no I/O, no logging, no clock, no global state.

Bits are reproducible for a given number of BLAS threads; who wants the same bits on every machine runs each
tensor on one thread (``maths.threads.one_thread``) and spreads tensors over
threads instead.
"""
