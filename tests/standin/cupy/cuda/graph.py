"""CUDA graphs, which come from captures."""

from typing import Any

from . import _capture


class Graph:
    """What was launched between `begin_capture` and `end_capture`."""

    def __init__(self, *args: Any, **others: Any) -> None:
        raise NotImplementedError(
            "currently this class cannot be initiated by the user and must be created via stream capture"
        )

    @classmethod
    def _of(cls, capture: _capture.Capture) -> "Graph":
        graph = object.__new__(cls)
        graph._capture = capture
        return graph

    def launch(self, stream: Any = None) -> None:
        """All of it, on this or the current stream."""
        _capture.refuse(_capture.capturing(stream))
        self._capture.launch()

    def upload(self, stream: Any = None) -> None:
        """It is there already."""
        _capture.refuse(_capture.capturing(stream))
