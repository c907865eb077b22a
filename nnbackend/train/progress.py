"""Progress of long work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


class Progress:
    """Epochs with a bar from tqdm where that is installed and somebody is looking, plain lines otherwise."""

    def __init__(self, epochs: Iterable[int], bar: bool) -> None:
        self.epochs: Iterable[int] = epochs
        self.bar: Any = None
        if bar:
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self.epochs = self.bar = tqdm(epochs, unit="epoch", leave=False, mininterval=0.5)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __iter__(self) -> Iterator[int]:
        return iter(self.epochs)

    def write(self, text: str) -> None:
        """A line, above the bar if there is one."""
        if self.bar is None:
            print(text, flush=True)
        else:
            self.bar.write(text)
