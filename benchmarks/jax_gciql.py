"""GC-IQL with DDPG+BC as a usual JAX program: flax modules, one Adam over all networks, one jitted update.

It computes the same losses on the same batches as ``benchmarks.training.PlainGCIQL``. JAX's GELU is the tanh form.
Matrix products on a GPU have the precision of ``jax.default_matmul_precision``; JAX's default is TF32.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

RATE, TAU, EXPECTILE, ALPHA = 3.0e-4, 0.005, 0.9, 0.3
Arrays = dict[str, Any]


class Network(nn.Module):
    """Linear layers, each hidden one followed by GELU and, for values, LayerNorm."""

    hidden: tuple[int, ...]
    outputs: int
    layer_norm: bool

    @nn.compact
    def __call__(self, inputs: Any) -> Any:
        """(batch, inputs) to (batch, outputs)."""
        for units in self.hidden:
            inputs = nn.gelu(nn.Dense(units, kernel_init=nn.initializers.xavier_uniform())(inputs))
            inputs = nn.LayerNorm()(inputs) if self.layer_norm else inputs
        return nn.Dense(self.outputs)(inputs)


def pair(hidden: tuple[int, ...]) -> nn.Module:
    """Two critics with weights of their own, mapped over their first axis."""
    ensemble = nn.vmap(
        Network,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=None,  # type: ignore[arg-type]
        axis_size=2,
    )
    critics: nn.Module = ensemble(hidden, 1, True)
    return critics


class JaxGCIQL:
    """The agent with its state; batches are those of `benchmarks.training.make_batch`, as arrays.

    Args:
        hidden: units of the hidden layers.
        observation: size of observations.
        goal: size of goals.
        action: size of actions.
    """

    def __init__(self, hidden: Sequence[int], observation: int, goal: int, action: int) -> None:
        widths = tuple(hidden)
        networks = {
            "value": Network(widths, 1, True),
            "critic": pair(widths),
            "actor": Network(widths, action, False),
        }
        inputs = observation + goal
        sizes = {"value": inputs, "critic": inputs + action, "actor": inputs}
        keys = jax.random.split(jax.random.PRNGKey(0), len(networks))
        weights = {
            name: network.init(key, jnp.zeros((1, sizes[name])))
            for key, (name, network) in zip(keys, networks.items(), strict=True)
        }
        optimizer = optax.adam(RATE)
        target = jax.tree.map(jnp.copy, weights["critic"])
        self.state = (weights, target, optimizer.init(weights))
        self.step = jax.jit(partial(_update, networks, optimizer), donate_argnums=(0, 1, 2))
        self.info: tuple[Any, ...] = ()

    @staticmethod
    def on_device(batch: Mapping[str, Any]) -> Arrays:
        """The batch as arrays of JAX."""
        return {name: jnp.asarray(values) for name, values in batch.items()}

    def update(self, batch: Arrays) -> None:
        """One step of all networks, and of the targets; on return it may still run in the background."""
        *state, self.info = self.step(*self.state, batch)
        self.state = tuple(state)

    def wait(self) -> None:
        """Wait for the updates that run in the background."""
        jax.block_until_ready(self.state)


def _update(
    networks: dict[str, nn.Module], optimizer: Any, weights: Any, target: Any, moments: Any, batch: Arrays
) -> tuple[Any, Any, Any, Any]:  # fmt: skip
    gradients, info = jax.grad(partial(_loss, networks), has_aux=True)(weights, target, batch)
    steps, moments = optimizer.update(gradients, moments, weights)
    target = optax.incremental_update(weights["critic"], target, TAU)
    return optax.apply_updates(weights, steps), target, moments, info


def _loss(
    networks: dict[str, nn.Module], weights: Any, target: Any, batch: Arrays
) -> tuple[Any, Any]:
    s, a, g = batch["observations"], batch["actions"], batch["value_goals"]
    value, critic, actor = (networks[name].apply for name in ("value", "critic", "actor"))
    fixed = jax.lax.stop_gradient(weights)

    def q(of: Any, *inputs: Any) -> Any:
        return critic(of, jnp.concatenate(inputs, -1)).squeeze(-1)

    def v(of: Any, *inputs: Any) -> Any:
        return value(of, jnp.concatenate(inputs, -1)).squeeze(-1)

    target_q = q(target, s, a, g).min(0)
    next_v = v(fixed["value"], batch["next_observations"], g)
    bootstrapped = batch["rewards"] + batch["discounts"] * batch["masks"] * next_v
    difference = target_q - v(weights["value"], s, g)
    value_loss = (jnp.where(difference < 0, 1 - EXPECTILE, EXPECTILE) * difference**2).mean()
    critic_loss = ((q(weights["critic"], s, a, g) - bootstrapped) ** 2).mean(1).sum()
    goal = batch["actor_goals"]
    action = actor(weights["actor"], jnp.concatenate([s, goal], -1))
    policy_q = q(fixed["critic"], s, jnp.clip(action, -1, 1), goal).min(0)
    imitation = ((action - a) ** 2).sum(-1).mean()
    scale = jax.lax.stop_gradient(jnp.abs(policy_q).mean())
    actor_loss = -policy_q.mean() / scale + ALPHA / 2 * imitation
    return value_loss + critic_loss + actor_loss, (value_loss, critic_loss, actor_loss)
