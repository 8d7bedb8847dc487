"""The errors of the package: one base, three kinds; each tells what, where and how to fix."""

from __future__ import annotations


class TnlayerError(Exception):
    """Base class of every error that tnlayer raises on purpose."""


class SpecError(TnlayerError, ValueError):
    """What the user said is wrong: a network, a port, a shape, a dtype or an option."""


class PlanError(TnlayerError, ValueError):
    """No plan can be made: a state is too large, or a limit cannot be kept."""


class BuildError(TnlayerError, RuntimeError):
    """Code could not be generated, compiled or loaded for the backend that was asked for."""
