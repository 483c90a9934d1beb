"""One id per contribution: how it is derived, how it travels, and which work of this process belongs to it.

Below everything else, so that each layer can say what it works on. No I/O; spans are handed to whoever was given to the
tracer.
"""
