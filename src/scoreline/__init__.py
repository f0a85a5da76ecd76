"""Reinforcement learning for language models, one mechanism at a time."""

__version__ = "0.1.0"
