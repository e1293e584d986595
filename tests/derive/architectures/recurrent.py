"""Networks that read a sequence step by step.

Carries start as zeros of the inputs' dtype: those of the cells would be of the
parameters' at initialisation, float32.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from tests.derive.architectures.architecture import Architecture, normal, tokens

Carry = tuple[jax.Array, jax.Array]

VOCABULARY = 11


def zeros(x: jax.Array, features: int) -> jax.Array:
    return jnp.zeros((x.shape[0], features), x.dtype)


class LSTMClassifier(nn.Module):
    """Embedded tokens, one LSTM, the mean of its outputs."""

    embed: int = 3
    hidden: int = 5

    @nn.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        x: Any = nn.Embed(VOCABULARY, self.embed)(ids)
        carry = (zeros(x, self.hidden), zeros(x, self.hidden))
        x = nn.RNN(nn.OptimizedLSTMCell(self.hidden))(x, initial_carry=carry)
        x = nn.tanh(nn.Dense(6)(jnp.mean(x, axis=1)))
        return nn.Dense(2)(x)


class LSTMStep(nn.Module):
    """A cell with a projection of what it puts out, in the form of a scan."""

    hidden: int
    out: int

    @nn.compact
    def __call__(self, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        carry, y = nn.LSTMCell(self.hidden)(carry, x)
        return carry, nn.Dense(self.out)(y)


class ScannedLSTM(nn.Module):
    """One LSTM by `nn.scan`, as in Flax's example of sequences to sequences."""

    hidden: int = 5
    out: int = 2

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scan = nn.scan(
            LSTMStep,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
        )
        carry = (zeros(x, self.hidden), zeros(x, self.hidden))
        _, y = scan(self.hidden, self.out)(carry, x)
        return y


class StackedGRU(nn.Module):
    """A GRU above another; the last output is read."""

    widths: tuple[int, ...] = (5, 6)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y: Any = x
        for width in self.widths:
            y = nn.RNN(nn.GRUCell(width))(y, initial_carry=zeros(x, width))
        return nn.Dense(2)(y[:, -1])


class BidirectionalRNN(nn.Module):
    """Plain cells in both directions, their outputs side by side."""

    hidden: tuple[int, int] = (5, 6)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        outputs = []
        for width, reverse in zip(self.hidden, (False, True), strict=True):
            rnn = nn.RNN(nn.SimpleCell(width), reverse=reverse, keep_order=True)
            outputs.append(rnn(x, initial_carry=zeros(x, width)))
        return nn.Dense(2)(jnp.concatenate(outputs, axis=-1))


class Seq2Seq(nn.Module):
    """The carry of an encoder starts a decoder."""

    hidden: int = 6

    @nn.compact
    def __call__(self, source: jax.Array, target: jax.Array) -> jax.Array:
        carry: Any = (zeros(source, self.hidden), zeros(source, self.hidden))
        encoder = nn.RNN(nn.LSTMCell(self.hidden), return_carry=True, name="encoder")
        carry, _ = encoder(source, initial_carry=carry)
        decoder = nn.RNN(nn.LSTMCell(self.hidden), name="decoder")
        y = decoder(target, initial_carry=carry)
        return nn.Dense(target.shape[-1])(y)


class GRUForecaster(nnx.Module):
    """NNX's GRU, whose gates are one layer."""

    def __init__(self, rngs: nnx.Rngs, hidden: int = 5) -> None:
        self.hidden = hidden
        self.rnn = nnx.RNN(nnx.GRUCell(3, hidden, rngs=rngs), rngs=False)
        self.head = nnx.Linear(hidden, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y: Any = self.rnn(x, initial_carry=zeros(x, self.hidden))
        return self.head(y)


class LSTMTagger(nnx.Module):
    """NNX's LSTM between two dense layers."""

    def __init__(self, rngs: nnx.Rngs, hidden: int = 5) -> None:
        self.hidden = hidden
        self.embed = nnx.Linear(3, 7, rngs=rngs)
        self.rnn = nnx.RNN(nnx.OptimizedLSTMCell(7, hidden, rngs=rngs), rngs=False)
        self.head = nnx.Linear(hidden, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.embed(x))
        carry = (zeros(x, self.hidden), zeros(x, self.hidden))
        y: Any = self.rnn(x, initial_carry=carry)
        return self.head(y)


class DiagonalSSM(nn.Module):
    """A linear recurrence of complex numbers, one for each state."""

    states: int

    @nn.compact
    def __call__(self, u: jax.Array) -> jax.Array:
        n, width = self.states, u.shape[-1]

        def weight(name: str, *shape: int) -> jax.Array:
            return self.param(name, nn.initializers.normal(), shape)

        nu, theta = weight("nu_log", n), weight("theta_log", n)
        b_re, b_im = weight("B_re", n, width), weight("B_im", n, width)
        c_re, c_im = weight("C_re", width, n), weight("C_im", width, n)
        skip = weight("D", width)
        poles = jnp.exp(-jnp.exp(nu) + 1j * jnp.exp(theta))
        driven = jnp.einsum("btd,nd->btn", u, b_re + 1j * b_im)

        def step(
            left: tuple[jax.Array, jax.Array], right: tuple[jax.Array, jax.Array]
        ) -> tuple[jax.Array, jax.Array]:
            return left[0] * right[0], right[0] * left[1] + right[1]

        decay = jnp.broadcast_to(poles, driven.shape)
        _, x = jax.lax.associative_scan(step, (decay, driven), axis=1)
        y = jnp.einsum("btn,dn->btd", x, c_re + 1j * c_im).real
        return y + skip * u


class StateSpace(nn.Module):
    """A block with its norm and its gates, around which the input goes."""

    width: int = 6
    states: int = 5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(self.width, name="encoder")(x)
        y = nn.LayerNorm(name="norm")(x)
        y = nn.gelu(DiagonalSSM(self.states, name="seq")(y))
        x = x + nn.Dense(self.width, name="out1")(y) * nn.sigmoid(
            nn.Dense(self.width, name="out2")(y)
        )
        return nn.Dense(2, name="decoder")(jnp.mean(x, axis=1))


RECURRENT = {
    "lstm": Architecture(
        LSTMClassifier, tokens(VOCABULARY, 7), "linen", "Flax's example sst2"
    ),
    "scanned_lstm": Architecture(
        ScannedLSTM, normal((7, 3)), "linen", "Flax's example seq2seq, nn.scan"
    ),
    "stacked_gru": Architecture(StackedGRU, normal((7, 3)), "linen", "nn.RNN twice"),
    "bidirectional_rnn": Architecture(
        BidirectionalRNN, normal((7, 3)), "linen", "nn.SimpleCell in both directions"
    ),
    "seq2seq": Architecture(
        Seq2Seq, normal((5, 3), (7, 2)), "linen", "Flax's example seq2seq"
    ),
    "gru_forecaster": Architecture(
        lambda: GRUForecaster(nnx.Rngs(0)), normal((7, 3)), "nnx", "nnx.RNN of GRU"
    ),
    "lstm_tagger": Architecture(
        lambda: LSTMTagger(nnx.Rngs(0)), normal((6, 3)), "nnx", "nnx.RNN of LSTM"
    ),
    "state_space": Architecture(
        StateSpace, normal((7, 3)), "linen", "Linear Recurrent Unit"
    ),
}
