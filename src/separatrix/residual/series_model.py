r"""What recipe `series` learns: an ensemble of fields, and where the pieces of the series start under each.

    dz/ds = A z + N(z)                          form "first",   z = (what is seen, what is hidden)
    dq/ds = v,   dv/ds = A (q, v) + N(q, v)     form "second",  q what is seen, v its rate

in scaled variables: z = (g(y) - m)/s for each column, with g(y) = y, log y for a column that is positive, and
log((y - a)/(b - y)) for one between a and b; and time s = r t. A network N beside a linear part A: what is close to
linear is learned at once, and the network is left with the rest. Where there are inputs u(t), both see (z, u).

The members differ in their first weights alone. Where data say what the field is they agree; where they do not, their
spread is what is not known.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._types import Function, Scalar, State
from separatrix.calculus import on_grid
from separatrix.calculus.methods import RK4
from separatrix.evolution import evolve
from separatrix.residual.shooting import ShootingModel, fine_grid, shooting_loss
from separatrix.systems.flow import Flow

# Of the last layer and the linear part at first: pieces then begin as straight lines, and no member runs away.
_FIRST = 0.1


class InputPath(eqx.Module):
    """u(s): inputs (R, k) in straight lines between rows at scaled times (R,), held before the first and after the last."""

    times: Any
    values: Any

    def __call__(self, s: Any) -> Any:
        return jax.vmap(lambda column: jnp.interp(s, self.times, column), in_axes=1)(self.values)


class SeriesField(eqx.Module):
    """A z + N(z), of one member; for all of them every array has a leading axis. z holds the inputs last."""

    linear: Any
    network: Any

    def __call__(self, state: Any) -> Any:
        return self.linear @ state + self.network(state)


class SeriesFlow(Flow):
    """The flow of a field in scaled variables."""

    field: Any
    second: bool = eqx.field(static=True)
    inputs: InputPath | None = None

    def velocity(self, t: Scalar, state: State) -> State:
        seen = state if self.inputs is None else jnp.concatenate([state, self.inputs(t).astype(state.dtype)])
        push = self.field(seen)
        return jnp.concatenate([state[push.shape[0] :], push]) if self.second else push


class ScaledColumns(eqx.Module):
    """Columns in the units of a file and back: z = (g(y) - m)/s with g of each column; what is hidden stays as it is.

    `bounds`: (a, b) of a column between them, None for others; () where there is none.
    """

    mean: tuple[float, ...] = eqx.field(static=True)
    scale: tuple[float, ...] = eqx.field(static=True)
    logs: tuple[bool, ...] = eqx.field(static=True)
    bounds: tuple[tuple[float, float] | None, ...] = eqx.field(static=True, default=())

    def scaled(self, values: Any) -> Any:
        """Of values (..., columns), NaN where there are none."""
        values = jnp.asarray(values)
        return jnp.stack([(self._free(k, values[..., k]) - m) / s for k, m, s in self._counted()], axis=-1)

    def unscaled(self, states: Any) -> Any:
        """Of states (..., columns)."""
        states = jnp.asarray(states)
        return jnp.stack([self._bound(k, states[..., k] * s + m) for k, m, s in self._counted()], axis=-1)

    def _counted(self) -> Any:
        return zip(range(len(self.mean)), self.mean, self.scale, strict=True)

    def _free(self, k: int, y: Any) -> Any:
        """g(y), on all of the line."""
        between = self.bounds[k] if self.bounds else None
        if between is not None:
            return jnp.log(y - between[0]) - jnp.log(between[1] - y)
        return jnp.log(y) if self.logs[k] else y

    def _bound(self, k: int, z: Any) -> Any:
        between = self.bounds[k] if self.bounds else None
        if between is not None:
            return between[0] + (between[1] - between[0]) * jax.nn.sigmoid(z)
        return jnp.exp(z) if self.logs[k] else z


class FileFlow(Flow):
    """The flow of a member in the units of the file: dy/dt = r DU(z) f(z) with y = U(z). Inputs are held."""

    flow: SeriesFlow
    columns: ScaledColumns
    rate: float = eqx.field(static=True)

    def velocity(self, t: Scalar, state: State) -> State:
        count = len(self.columns.mean)
        whole = state[:count], state[count:]
        if self.flow.second:
            # A rate of the file is that of its column: dy/dt = r DU(q) v, so that v = DU(q)^-1 (dy/dt)/r.
            q, (_, slope) = self._with_slope(whole[0])
            v = whole[1] / (slope * self.rate)
            push = self.flow.velocity(t, jnp.concatenate([q, v]))
            _, more = jax.jvp(self._out, (q, v), (push[:count], push[count:]))
            return self.rate * more
        z = jnp.concatenate([self.columns.scaled(whole[0]), whole[1]])
        push = self.flow.velocity(t, z)
        _, seen = jax.jvp(self.columns.unscaled, (z[:count],), (push[:count],))
        return self.rate * jnp.concatenate([seen, push[count:]])

    def _with_slope(self, values: Any) -> Any:
        q = self.columns.scaled(values)
        return q, jax.jvp(self.columns.unscaled, (q,), (jnp.ones_like(q),))

    def _out(self, q: Any, v: Any) -> Any:
        values, slope = jax.jvp(self.columns.unscaled, (q,), (jnp.ones_like(q),))
        return jnp.concatenate([values, self.rate * slope * v])


def new_fields(size: int, outputs: int, width: int, depth: int, members: int, key: Any) -> SeriesField:
    """Fields of all members with their first weights; `size`: of a state with its inputs."""

    def one(key: Any) -> SeriesField:
        of_linear, of_network = jax.random.split(key)
        network = eqx.nn.MLP(size, outputs, width, depth, jax.nn.tanh, key=of_network)
        last: Any = network.layers[-1]
        small = _FIRST * last.weight, jnp.zeros_like(last.bias)
        network = eqx.tree_at(lambda net: (net.layers[-1].weight, net.layers[-1].bias), network, small)
        return SeriesField(_FIRST * jax.random.normal(of_linear, (outputs, size)), network)

    return eqx.filter_vmap(one)(jax.random.split(key, members))


def ensemble_loss(
    second: bool, columns: int, matching: float, substeps: int, penalty: float, inputs: InputPath | None = None
) -> Function:
    """The mean over members of their shooting losses, and of the squares of their networks' weights times the penalty."""

    def flow_of(field: SeriesField) -> SeriesFlow:
        return SeriesFlow(field, second, inputs)

    one = shooting_loss(flow_of, matching=matching, substeps=substeps, observe=lambda x: x[:columns])

    def with_penalty(shooting: ShootingModel, batch: Any) -> Any:
        layers = shooting.model.network.layers
        squares = jnp.stack([jnp.sum(layer.weight**2) for layer in layers])
        return one(shooting, batch) + penalty * jnp.sum(squares)

    def loss(shooting: ShootingModel, batch: Any) -> Any:
        return jnp.mean(eqx.filter_vmap(with_penalty, in_axes=(eqx.if_array(0), None))(shooting, batch))

    return loss


def path_of(
    field: SeriesField, second: bool, times: Any, start: Any, substeps: int, inputs: InputPath | None = None
) -> Any:
    """States at scaled times (T,), shape (T, size); NaN past a break."""
    steps = on_grid(SeriesFlow(field, second, inputs), RK4(), fine_grid(times, substeps))
    return evolve(steps, start, save=substeps).states
