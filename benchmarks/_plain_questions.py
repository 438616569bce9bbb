"""Each question and loop beside the plain JAX that a user would write for it: (plain form, our call) by name."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import separatrix as sx

KEY = jax.random.key(0)
Pair = tuple[Any, Any]


class Henon(eqx.Module):
    a: Any

    def __call__(self, x: Any) -> Any:
        return jnp.stack([1 - self.a * x[0] ** 2 + x[1], 0.3 * x[0]])


def henon() -> dict[str, Pair]:
    """A tiny map, whose step is a few additions: all the rest is the loop."""
    return _henon(1_000) | _henon(100_000)


def _henon(steps: int) -> dict[str, Pair]:
    map, start = Henon(jnp.asarray(1.4)), jnp.array([0.1, 0.1])
    ours = sx.as_map(map)

    @jax.jit
    def rows(map: Any, x: Any) -> Any:
        return jax.lax.scan(lambda x, _: (map(x),) * 2, x, length=steps)[1]

    @jax.jit
    def last(map: Any, x: Any) -> Any:
        return jax.lax.scan(lambda x, _: (map(x), None), x, length=steps)[0]

    return {
        f"evolve, map of 2, {steps:,} rows": (
            lambda: rows(map, start),
            lambda: sx.evolve(ours, start, steps=steps).states,
        ),
        f"evolve, map of 2, last of {steps:,}": (
            lambda: last(map, start),
            lambda: sx.evolve(ours, start, steps=steps, save="last").final,
        ),
    }


def network_map() -> dict[str, Pair]:
    """A map whose step is work: 256 units."""
    net, steps = sx.recurrent.random_network(256, 1.5, key=KEY), 10_000
    start = jax.random.normal(jax.random.key(1), (256,))

    @jax.jit
    def rows(net: Any, x: Any) -> Any:
        return jax.lax.scan(lambda x, _: (net.step(0, x),) * 2, x, length=steps)[1]

    return {f"evolve, map of 256, {steps:,} rows": (
        lambda: rows(net, start), lambda: sx.evolve(net, start, steps=steps).states
    )}  # fmt: skip


def lorenz(x: Any) -> Any:
    return jnp.stack([10.0 * (x[1] - x[0]), x[0] * (28.0 - x[2]) - x[1], x[0] * x[1] - 8 / 3 * x[2]])


def rk4(h: float) -> Any:
    def step(x: Any) -> Any:
        k1 = lorenz(x)
        k2 = lorenz(x + h / 2 * k1)
        k3 = lorenz(x + h / 2 * k2)
        return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + lorenz(x + h * k3))

    return step


def many_flows() -> dict[str, Pair]:
    """256 orbits of Lorenz's flow, 2,000 steps of RK4."""
    starts, flow, h, steps = jax.random.normal(KEY, (256, 3)), sx.as_flow(lorenz), 0.01, 2_000

    @jax.jit
    def plain(starts: Any) -> Any:
        one = lambda x: jax.lax.scan(lambda x, _: (rk4(h)(x), None), x, length=steps)[0]  # noqa: E731
        return jax.vmap(one)(starts)

    @jax.jit
    def ours(starts: Any) -> Any:
        one = lambda x: sx.evolve(flow, x, steps=steps, step_size=h, method=sx.RK4(), save="last").final  # noqa: E731
        return jax.vmap(one)(starts)

    return {"evolve, vmapped RK4": (lambda: plain(starts), lambda: ours(starts))}


def basins() -> dict[str, Pair]:
    """Which minimum gradient descent with momentum comes to, from 64 x 64 starts."""

    def step(x: Any) -> Any:
        velocity = 0.9 * x[1] - 0.1 * (x[0] ** 3 - x[0])
        return jnp.stack([x[0] + velocity, velocity])

    map, ends = sx.as_map(step), jnp.array([[-1.0, 0.0], [1.0, 0.0]])
    grid = jnp.stack(jnp.meshgrid(jnp.linspace(-2, 2, 64), jnp.linspace(-1, 1, 64), indexing="ij"), axis=-1)

    @jax.jit
    def plain(grid: Any) -> Any:
        last = jax.lax.fori_loop(0, 1_000, lambda _, x: jax.vmap(step)(x), grid.reshape(-1, 2))
        return jnp.argmin(jnp.linalg.norm(last[:, None] - ends, axis=2), axis=1)

    box = ((-2.0, -1.0), (2.0, 1.0))
    return {"basins, 64 x 64 starts": (lambda: plain(grid), lambda: sx.basins(map, region=box).fates)}


def bifurcations() -> dict[str, Pair]:
    """The logistic map at 600 parameters, 128 points each after 1,000."""
    logistic, rates, start = sx.as_map(Logistic(jnp.asarray(2.5))), jnp.linspace(2.8, 4.0, 600), jnp.asarray(0.3)

    @jax.jit
    def plain(rates: Any) -> Any:
        def one(r: Any) -> Any:
            x = jax.lax.fori_loop(0, 1_000, lambda _, x: r * x * (1 - x), start)
            return jax.lax.scan(lambda x, _: (r * x * (1 - x),) * 2, x, length=128)[1]

        return jax.vmap(one)(rates)

    ours = lambda: sx.bifurcation_diagram(logistic, "r", rates, start).points  # noqa: E731
    return {"bifurcation_diagram, 600 x 1,128": (lambda: plain(rates), ours)}


class Logistic(eqx.Module):
    r: Any

    def __call__(self, x: Any) -> Any:
        return self.r * x * (1 - x)


class Bratu(eqx.Module):
    """A chain of 30 with a fold: x'' + p exp(x) = 0."""

    p: Any

    def __call__(self, x: Any) -> Any:
        padded = jnp.pad(x, 1)
        return (padded[2:] - 2 * x + padded[:-2]) * 31.0**2 + self.p * jnp.exp(x)


def continuation() -> dict[str, Pair]:
    """Arclength through Bratu's fold. The plain form has one jitted Newton corrector and a loop in Python, no detection."""
    chain, start = Bratu(jnp.asarray(0.5)), jnp.zeros(30)
    bounds, step = (0.1, 4.0), 0.05
    flow = sx.as_flow(chain)

    @jax.jit
    def corrected(z: Any, guess: Any, tangent: Any) -> Any:
        def newton(z: Any, _: Any) -> Any:
            g = lambda z: jnp.append(Bratu(z[-1] * 3.9)(z[:-1]), tangent @ (z - guess))  # noqa: E731
            return z - jnp.linalg.solve(jax.jacfwd(g)(z), g(z)), None

        z = jax.lax.scan(newton, z, length=4)[0]
        rows = jax.jacfwd(lambda z: Bratu(z[-1] * 3.9)(z[:-1]))(z)
        along = jnp.linalg.solve(jnp.concatenate([rows, tangent[None]]), jnp.zeros(31).at[-1].set(1.0))
        return z, along / jnp.linalg.norm(along), jnp.linalg.eigvals(rows[:, :-1])

    count = [0]

    def ours() -> Any:
        found = sx.continuation(flow, "p", start, bounds=bounds, step=step, max_step=step)
        count[0] = len(found.parameters)
        return found.parameters

    def plain() -> Any:
        z, tangent = jnp.append(start, 0.5 / 3.9), jnp.zeros(31).at[-1].set(1.0)
        found = []
        for _ in range(count[0] or 60):
            z, tangent, values = corrected(z + step * tangent, z + step * tangent, tangent)
            found.append((np.asarray(z), np.asarray(values)))
        return found

    ours()
    return {f"continuation, {count[0]} points of 30": (plain, ours)}


def gradients() -> dict[str, Pair]:
    """Singular values of the products of 200 Jacobians of a network of 32."""
    net = sx.recurrent.random_network(32, 1.2, key=KEY)
    path = sx.evolve(net, jax.random.normal(jax.random.key(1), (32,)), steps=200)

    @jax.jit
    def plain(states: Any) -> Any:
        def back(carry: Any, x: Any) -> Any:
            q, r, logs = carry
            q, triangle = jnp.linalg.qr(jax.jacfwd(lambda x: net.step(0, x))(x).T @ q)
            r = triangle @ r
            size = jnp.max(jnp.abs(r))
            return (q, r / size, logs + jnp.log(size)), jnp.log(jnp.linalg.svd(r / size, compute_uv=False)) + logs

        begin = jnp.eye(32), jnp.eye(32), jnp.zeros(())
        return jax.lax.scan(back, begin, states[:-1], reverse=True)[1]

    ours = lambda: sx.gradient_profile(net, path).log_singular_values  # noqa: E731
    return {"gradient_profile, 200 x 32": (lambda: plain(path.states), ours)}


def curvatures() -> dict[str, Pair]:
    """The largest eigenvalue of a Hessian of 20,000 to a thousandth; the plain form is power iteration to the same."""
    inputs = jax.random.normal(KEY, (512, 64))
    targets = jnp.sin(inputs @ jax.random.normal(jax.random.key(2), (64, 10)))
    keys = jax.random.split(jax.random.key(3), 3)
    widths = ((64, 128), (128, 64), (64, 10))
    weights = [jax.random.normal(k, s) / s[0] ** 0.5 for k, s in zip(keys, widths, strict=True)]

    def loss(weights: Any) -> Any:
        x = inputs
        for matrix in weights[:-1]:
            x = jnp.tanh(x @ matrix)
        return jnp.mean((x @ weights[-1] - targets) ** 2)

    @jax.jit
    def plain(weights: Any) -> Any:
        flat, back = jax.flatten_util.ravel_pytree(weights)
        product = lambda v: jax.jvp(jax.grad(lambda w: loss(back(w))), (flat,), (v,))[1]  # noqa: E731

        def step(state: Any) -> Any:
            v, _, _, n = state
            image = product(v)
            value = v @ image
            return image / jnp.linalg.norm(image), value, jnp.linalg.norm(image - value * v), n + 1

        v = jax.random.normal(jax.random.key(4), flat.shape)
        begin = v / jnp.linalg.norm(v), jnp.asarray(1.0), jnp.asarray(1.0), 0
        going = lambda s: (s[2] > 0.03 * jnp.abs(s[1])) & (s[3] < 500)  # noqa: E731
        return jax.lax.while_loop(going, step, begin)[1]

    return {"curvature, 17,000 parameters": (
        lambda: plain(weights), lambda: sx.curvature(loss, weights).eigenvalues
    )}  # fmt: skip


def rests() -> dict[str, Pair]:
    """A GRU of 64 units from 192 starts; the plain form is Newton's method of all until the slowest has settled."""
    cell = eqx.nn.GRUCell(3, 64, key=KEY, dtype=jnp.float64)
    cell = eqx.tree_at(lambda c: c.weight_hh, cell, 4 * cell.weight_hh)
    starts = 0.5 * jax.random.normal(jax.random.key(1), (192, 64))
    network = sx.as_map(lambda x: cell(jnp.zeros(3), x))

    @jax.jit
    def plain(starts: Any) -> Any:
        equation = lambda x: cell(jnp.zeros(3), x) - x  # noqa: E731

        def step(state: Any) -> Any:
            x, _, n = state
            jacobians = jax.vmap(jax.jacfwd(equation))(x)
            d = jnp.linalg.solve(jacobians, jax.vmap(equation)(x)[:, :, None])[:, :, 0]
            return x - d, jnp.max(jnp.abs(d)), n + 1

        going = lambda s: ~(s[1] <= 1e-10) & (s[2] < 50)  # noqa: E731
        return jax.lax.while_loop(going, step, (starts, jnp.asarray(jnp.inf), 0))[0]

    return {"fixed_points, GRU 64 x 192": (
        lambda: plain(starts), lambda: sx.fixed_points(network, starts).coordinates
    )}  # fmt: skip


def trainings() -> dict[str, Pair]:
    """2,000 steps of Adam on batches of 64, a network 64-64-64-10."""
    inputs = jax.random.normal(KEY, (1_797, 64), jnp.float32)
    data = inputs, jnp.argmax(inputs[:, :10], axis=1)
    net = eqx.nn.MLP(64, 10, 64, 2, jnp.tanh, key=KEY, dtype=jnp.float32)
    parameters, rest = eqx.partition(net, eqx.is_inexact_array)
    optimizer, steps = optax.adam(1e-3), 2_000

    def loss(net: Any, batch: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(net)(batch[0]), batch[1]).mean()

    @jax.jit
    def plain(parameters: Any) -> Any:
        def step(carry: Any, n: Any) -> Any:
            parameters, inner = carry
            chosen = jax.random.randint(jax.random.fold_in(KEY, n), (64,), 0, len(inputs))
            batch = data[0][chosen], data[1][chosen]
            slope = jax.grad(lambda values: loss(eqx.combine(values, rest), batch))(parameters)
            updates, inner = optimizer.update(slope, inner, parameters)
            return (optax.apply_updates(parameters, updates), inner), None

        return jax.lax.scan(step, (parameters, optimizer.init(parameters)), jnp.arange(steps))[0]

    ours = lambda: sx.fit(loss, optimizer, data, initial=net, batch_size=64, key=KEY, steps=steps).state  # noqa: E731
    return {"fit, 64-64-64-10": (lambda: plain(parameters), ours)}


MAKERS = {
    "evolve": (henon, network_map, many_flows),
    "basins": (basins,),
    "bifurcation_diagram": (bifurcations,),
    "continuation": (continuation,),
    "gradient_profile": (gradients,),
    "curvature": (curvatures,),
    "fixed_points": (rests,),
    "fit": (trainings,),
}


def questions(words: list[str]) -> dict[str, Pair]:
    """Those whose names hold one of the words; all without words."""
    found: dict[str, Pair] = {}
    for name, makers in MAKERS.items():
        if not words or any(word in name for word in words):
            for make in makers:
                found |= make()
    return found
