"""Shared numerical kernels. Pure: no I/O, no logging, no clock, no global state."""
