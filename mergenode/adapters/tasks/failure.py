"""What can be wrong with a plug-in without any exception of its own."""

from __future__ import annotations

from typing import Literal

Kind = Literal["entrypoint", "missing", "unfit", "invalid", "checkpoint"]


class Failure(Exception):
    """Ends the plug-in's process, and reaches the node as the error that fits ``kind``.

    ``entrypoint``: there is no such class. ``missing``: it lacks a method. ``unfit``: the model is not that of the
    checkpoint. ``checkpoint``: the checkpoint cannot be read. ``invalid``: a call returned what it must not.
    """

    def __init__(self, kind: Kind, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.hint = hint
