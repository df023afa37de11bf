"""Encoders: what is observed, or a goal, to the features that the first layer of a network reads.

This is the place for other kinds of observations and goals; vectors may go in as they are.
"""

from torch import nn

from offline_gcrl.networks.mlp import ACTIVATIONS, MLP


def vector_encoder(inputs: int, outputs: int, activation: str) -> nn.Module:
    """A hidden layer: (batch, inputs) to (batch, outputs)."""
    return nn.Sequential(MLP([inputs, outputs], activation), ACTIVATIONS[activation]())
