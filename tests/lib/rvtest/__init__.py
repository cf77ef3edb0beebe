"""What tests stand on: kernels, roots and builds, guests, TAP."""

from .vm import build, kernels, root
from .guest import Guest, GuestError, Result
from .tap import Tap

__all__ = ['Guest', 'GuestError', 'Result', 'Tap', 'build', 'kernels', 'root']
