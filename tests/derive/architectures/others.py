"""Sets, graphs, gates, conditions, products: what is not a picture or a sentence."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

from tests.derive.architectures.architecture import BATCH, Architecture, normal


class MLP(nn.Module):
    """Dense layers with an activation between them."""

    features: Sequence[int]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for features in self.features[:-1]:
            x = nn.tanh(nn.Dense(features)(x))
        return nn.Dense(self.features[-1])(x)


class WeightNormMLP(nn.Module):
    """Kernels of norm 1 for every unit, times a scale."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for features in (7, 5):
            dense = nn.Dense(features)
            x = nn.relu(nn.WeightNorm(dense, variable_filter={"kernel"})(x))
        return nn.Dense(2)(x)


class DeepSets(nn.Module):
    """A network of every element, their sum, a network of it."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Dense(8, name="phi_0")(x))
        x = nn.Dense(5, name="phi_1")(x)
        x = jnp.sum(x, axis=-2)
        x = nn.relu(nn.Dense(7, name="rho_0")(x))
        return nn.Dense(2, name="rho_1")(x)


class PointNet(nnx.Module):
    """The largest value over the points, for every channel."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv1 = nnx.Linear(3, 6, rngs=rngs)
        self.bn1 = nnx.BatchNorm(6, use_running_average=True, rngs=rngs)
        self.conv2 = nnx.Linear(6, 8, rngs=rngs)
        self.fc1 = nnx.Linear(8, 7, rngs=rngs)
        self.fc2 = nnx.Linear(7, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.bn1(self.conv1(x)))
        x = jnp.max(self.conv2(x), axis=1)
        return self.fc2(nnx.relu(self.fc1(x)))


class GraphConvolution(nn.Module):
    """Features go along the edges, divided by the roots of the degrees."""

    features: int

    @nn.compact
    def __call__(self, nodes: jax.Array, adjacency: jax.Array) -> jax.Array:
        degree = adjacency.sum(axis=-1, keepdims=True)
        edges = adjacency / jnp.sqrt(degree * jnp.swapaxes(degree, -2, -1))
        return edges @ nn.Dense(self.features)(nodes)


class GCN(nn.Module):
    """Two convolutions over a graph that is given as a matrix."""

    @nn.compact
    def __call__(self, nodes: jax.Array, adjacency: jax.Array) -> jax.Array:
        nodes = nn.relu(GraphConvolution(7)(nodes, adjacency))
        return GraphConvolution(2)(nodes, adjacency)


class GAT(nn.Module):
    """Attention over the edges, by two vectors for every head."""

    heads: int = 2
    head_dim: int = 6

    @nn.compact
    def __call__(self, nodes: jax.Array, adjacency: jax.Array) -> jax.Array:
        init, sizes = nn.initializers.normal(), (self.heads, self.head_dim)
        h = nn.DenseGeneral(sizes, use_bias=False, name="project")(nodes)
        sent = jnp.einsum("bnhd,hd->bhn", h, self.param("sender", init, sizes))
        got = jnp.einsum("bnhd,hd->bhn", h, self.param("receiver", init, sizes))
        logits = nn.leaky_relu(got[..., :, None] + sent[..., None, :], 0.2)
        logits = jnp.where(adjacency[:, None] > 0, logits, -jnp.inf)
        h = jnp.einsum("bhnm,bmhd->bnhd", nn.softmax(logits, axis=-1), h)
        h = nn.elu(h.reshape(*h.shape[:-2], -1))
        return nn.Dense(3, name="out")(h)


def graph(nodes: int, features: int, seed: int) -> tuple[jax.Array, jax.Array]:
    """Returns features of nodes, and symmetric edges with every node's own."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(BATCH, nodes, features))
    edges = rng.random((BATCH, nodes, nodes)) < 0.4
    edges = edges | edges.swapaxes(-1, -2) | np.eye(nodes, dtype=bool)
    return jnp.asarray(x), jnp.asarray(edges, jnp.float64)


class FiLMNet(nn.Module):
    """A condition scales and shifts the channels of a convolutional network."""

    channels: int = 5

    @nn.compact
    def __call__(self, x: jax.Array, condition: jax.Array) -> jax.Array:
        h = nn.relu(nn.Dense(6, name="condition")(condition))
        x = nn.Conv(self.channels, (3, 3), name="conv_0")(x)
        gamma = nn.Dense(self.channels, name="gamma")(h)
        beta = nn.Dense(self.channels, name="beta")(h)
        x = nn.relu(x * gamma[:, None, None, :] + beta[:, None, None, :])
        x = nn.relu(nn.Conv(7, (3, 3), name="conv_1")(x))
        return nn.Dense(2, name="head")(jnp.mean(x, axis=(1, 2)))


class GatedMLP(nnx.Module):
    """One half of a layer multiplies the other half."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.gated = nnx.Linear(3, 2 * 7, rngs=rngs)
        self.down = nnx.Linear(7, 5, rngs=rngs)
        self.out = nnx.Linear(5, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.down(nnx.glu(self.gated(x), axis=-1))
        return self.out(nnx.gelu(x))


class Bilinear(nn.Module):
    """Products of two linear maps, without any other activation."""

    # Fewer than there are products of inputs: each product can be told from the rest.
    hidden: int = 5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        left = nn.Dense(self.hidden, use_bias=False, name="left")(x)
        right = nn.Dense(self.hidden, use_bias=False, name="right")(x)
        return nn.Dense(7, name="out")(left * right)


class Maxout(nn.Module):
    """The largest of three linear pieces."""

    hidden: int = 5
    pieces: int = 3

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.DenseGeneral((self.hidden, self.pieces), name="pieces")(x)
        return nn.Dense(7, name="out")(jnp.max(x, axis=-1))


class DeepONet(nn.Module):
    """The product of a network of a function and a network of a place."""

    hidden: int = 7
    basis: int = 5

    @nn.compact
    def __call__(self, samples: jax.Array, places: jax.Array) -> jax.Array:
        branch = MLP((self.hidden, self.basis), name="branch")(samples)
        trunk = MLP((8, self.basis), name="trunk")(places)
        bias = self.param("bias", nn.initializers.zeros, ())
        return jnp.einsum("bp,bqp->bq", branch, trunk) + bias


class TwoTowers(nn.Module):
    """Cosines of all pairs of two embeddings, as CLIP compares."""

    width: int = 5

    @nn.compact
    def __call__(self, image: jax.Array, text: jax.Array) -> jax.Array:
        zimg = MLP((7, self.width), name="img")(image)
        ztxt = MLP((6, self.width), name="txt")(text)
        # The small number makes the scale of an embedding matter, by 1e-8.
        zimg, ztxt = (
            z / (jnp.linalg.norm(z, axis=-1, keepdims=True) + 1e-8)
            for z in (zimg, ztxt)
        )
        temperature = self.param("t", nn.initializers.ones, ())
        return jnp.exp(temperature) * zimg @ ztxt.T


class DLRM(nn.Module):
    """Products of embeddings with one another, beside a network of numbers."""

    width: int = 5
    categories: tuple[int, int] = (7, 9)

    @nn.compact
    def __call__(self, numbers: jax.Array, which: jax.Array) -> jax.Array:
        bottom = MLP((7, self.width), name="bottom")(numbers)
        tables = [nn.Embed(n, self.width, name=f"table_{n}") for n in self.categories]
        vectors = [table(which[:, i]) for i, table in enumerate(tables)]
        stacked = jnp.stack([bottom, *vectors], axis=1)
        products = jnp.einsum("bie,bje->bij", stacked, stacked)
        upper = jnp.triu_indices(stacked.shape[1], k=1)
        x = jnp.concatenate([bottom, products[:, *upper]], axis=-1)
        return MLP((8, 2), name="top")(x)


def numbers_and_categories(seed: int) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(seed)
    which = np.stack([rng.permutation(10) % n for n in DLRM.categories], axis=1)
    return jnp.asarray(rng.normal(size=(10, 4))), jnp.asarray(which, jnp.int32)


class DuelingDQN(nn.Module):
    """A value, and advantages without their mean."""

    actions: int = 3

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Dense(8, name="torso")(x))
        value = nn.relu(nn.Dense(7, name="value_hidden")(x))
        value = nn.Dense(1, name="value")(value)
        advantage = nn.relu(nn.Dense(6, name="advantage_hidden")(x))
        advantage = nn.Dense(self.actions, name="advantage")(advantage)
        return value + advantage - jnp.mean(advantage, axis=-1, keepdims=True)


OTHERS = {
    "weight_norm_mlp": Architecture(
        WeightNormMLP, normal((3,)), "linen", "nn.WeightNorm on kernels"
    ),
    "deep_sets": Architecture(DeepSets, normal((6, 3)), "linen", "Deep Sets, sums"),
    "point_net": Architecture(
        lambda: PointNet(nnx.Rngs(0)), normal((5, 3)), "nnx", "PointNet"
    ),
    "gcn": Architecture(
        GCN, lambda seed: graph(5, 3, seed), "linen", "graph convolutions, dense edges"
    ),
    "gat": Architecture(
        GAT, lambda seed: graph(5, 7, seed), "linen", "graph attention, dense edges"
    ),
    "film": Architecture(FiLMNet, normal((8, 10, 3), (2,)), "linen", "FiLM"),
    "gated_mlp": Architecture(
        lambda: GatedMLP(nnx.Rngs(0)), normal((3,)), "nnx", "gated linear units"
    ),
    "bilinear": Architecture(Bilinear, normal((6,)), "linen", "bilinear MLP"),
    "maxout": Architecture(Maxout, normal((6,)), "linen", "Maxout"),
    "deep_o_net": Architecture(
        DeepONet, normal((6,), (9, 2)), "linen", "DeepONet, unstacked"
    ),
    "two_towers": Architecture(
        TwoTowers, normal((3,), (2,)), "linen", "Big Vision's two towers"
    ),
    "dlrm": Architecture(DLRM, numbers_and_categories, "linen", "DLRM"),
    "dueling_dqn": Architecture(DuelingDQN, normal((4,), batch=5), "linen", "Dueling"),
}
