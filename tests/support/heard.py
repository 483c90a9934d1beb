"""An observer that writes down what it hears of long work."""

from __future__ import annotations

from mergenode.adapters.observers.fan_out import FanOut
from mergenode.ports.observer import Progress


class Heard(FanOut):
    """``words``: all progress in the order of its telling."""

    def __init__(self) -> None:
        super().__init__([])
        self.words: list[Progress] = []

    def progress(self, progress: Progress) -> None:
        self.words.append(progress)

    def of(self, activity: str) -> list[Progress]:
        return [word for word in self.words if word.activity == activity]
