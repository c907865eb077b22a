"""A step, recorded once as a program of array operations: to replay, to print, to write out."""

from ..backend.threads import num_threads, set_num_threads
from .compiled import Compiled, compile
from .graph import Program

__all__ = ["Compiled", "Program", "compile", "num_threads", "set_num_threads"]
