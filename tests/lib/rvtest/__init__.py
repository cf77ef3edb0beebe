"""Test bench of rmapviz: kernels, roots and builds, guests, TAP."""

from .bench import build, kernels, root
from .guest import Guest, GuestError, Result
from .tap import Tap

__all__ = ['Guest', 'GuestError', 'Result', 'Tap', 'build', 'kernels', 'root']
