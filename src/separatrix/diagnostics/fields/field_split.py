r"""How much of a field falls and how much of it turns.

The Jacobian of a field splits into J = S + A, symmetric and antisymmetric. A field is a gradient (near a state, to first
order) iff A = 0; S stretches and A turns, at right angles: |J|^2 = |S|^2 + |A|^2. The share of A is the rotation index,

    index = |A|^2/(|A|^2 + |S|^2),      0 for a gradient, 1 for a pure turn as that of a bilinear game.

For standard normal v the mean of |J v -+ J^T v|^2/4 is |A|^2, |S|^2 (Hutchinson): two products a probe, no matrix.

What a Jacobian says at a point, a loop says at a distance: the circulation of a gradient round every circle is zero,

    Gamma = oint f . dl,      Gamma/(pi r^2) -> 2 w^T A u   (r -> 0, in the plane of u, w).

All of it depends on coordinates: a gradient in another metric (a preconditioned one, say) is no gradient here.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from separatrix._errors import explain
from separatrix._tree import float_dtype, is_traced, subtract
from separatrix._types import Key, Scalar, State
from separatrix.calculus import limit
from separatrix.diagnostics.applies import FORMED, is_simultaneous
from separatrix.diagnostics.checks import check_count, check_finite, check_key, checked_state
from separatrix.diagnostics.finding import Finding
from separatrix.diagnostics.questions import Question, register
from separatrix.diagnostics.result import Result, Row
from separatrix.linear.coordinates import Jacobian, dimension_of, kind_of, rate
from separatrix.linear.spectrum import euler_edge
from separatrix.systems.flow import Flow
from separatrix.systems.map import Map, NearIdentityMap

# Up to here the Jacobian is formed; beyond, so many probes.
_DENSE = 512
_PROBES = 64


class Displacement(Flow):
    """F(n, x) - x: where a map moves a state, as a field."""

    map: Map
    key: Key | None

    def velocity(self, t: Scalar, state: State) -> State:
        return subtract(self.map.step(jnp.asarray(t).astype(int), state, key=self.key), state)


class Drift(Flow):
    """A system's field as a flow: f of a flow or an SDE, on the key's sample where it draws any."""

    system: Any
    key: Key | None

    def velocity(self, t: Scalar, state: State) -> State:
        return rate(self.system, state, at=t, key=self.key)


def field_of(system: Any, key: Key | None) -> Flow:
    """The field that is split: f, the drift, the limit of a near-identity map, or F(x) - x."""
    kind_of(system)
    match system:
        case NearIdentityMap():
            return Drift(limit(system), key)
        case Map():
            return Displacement(system, key)
    # A flow that draws nothing is its own field, and shares its programs with other questions.
    return system if key is None and isinstance(system, Flow) else Drift(system, key)


class FieldSplit(Result):
    r"""The parts of a field's Jacobian at a state of d coordinates, and its circulation round circles about it.

    - `index`, `index_error`: |A|^2/(|A|^2 + |S|^2) and its standard error; 0 where J was formed. NaN for J = 0.
    - `symmetric`, `antisymmetric`, and their `_error`s: |S|^2 and |A|^2, Frobenius norms.
    - `divergence`, `divergence_error`: tr J.
    - `euler_edge`: the step size up to which Euler's steps do not grow, the least -2 Re lambda/|lambda|^2 over eigenvalues;
      0 where one does not fall, infinite where none moves, NaN where J was not formed.
    - `radii`, shape (R,). `circulations`, shape (R, L): oint f . dl/(pi r^2) round L random circles of each radius;
      `circulation_errors`: of their quadrature.
    - `turning`, shape (R,): root mean square of oint f . dl/oint |f| dl, 0 for a gradient, 1 along a pure turn.
    """

    index: Float[Array, ""]
    index_error: Float[Array, ""]
    symmetric: Float[Array, ""]
    symmetric_error: Float[Array, ""]
    antisymmetric: Float[Array, ""]
    antisymmetric_error: Float[Array, ""]
    divergence: Float[Array, ""]
    divergence_error: Float[Array, ""]
    euler_edge: Float[Array, ""]
    radii: Float[Array, " R"]
    circulations: Float[Array, "R L"]
    circulation_errors: Float[Array, "R L"]
    turning: Float[Array, " R"]
    probes: int = eqx.field(static=True)
    size: int = eqx.field(static=True)
    single_precision: bool = eqx.field(static=True)

    @property
    def conservative(self) -> bool:
        """Whether no loop and no probe tells the field from a gradient: all within four errors of zero; not for NaN."""
        loops = np.all(np.abs(self.circulations) <= 4 * np.asarray(self.circulation_errors))
        rounding = (1e-4 if self.single_precision else 1e-12) * float(self.symmetric + self.antisymmetric)
        return bool(loops and self.antisymmetric <= rounding)

    def rows(self) -> list[Row]:
        formed = not self.probes

        def row(name: str, value: Any, error: Any) -> Row:
            return Row(name, value, None if formed else error)

        rows = [
            row("rotation index", self.index, self.index_error),
            row("symmetric part, squared", self.symmetric, self.symmetric_error),
            row("antisymmetric part, squared", self.antisymmetric, self.antisymmetric_error),
            row("divergence", self.divergence, self.divergence_error),
        ]
        for radius, turning in zip(self.radii, self.turning, strict=True):
            rows.append(Row(f"turning round circles of radius {float(radius):.3g}", turning))
        known = np.isfinite(self.antisymmetric) and np.isfinite(self.circulations).all()
        return [*rows, Row("conservative", ("yes" if self.conservative else "no") if known else "not known")]

    @property
    def cautions(self) -> tuple[str, ...]:
        found = []
        if np.isnan(self.index):
            found.append("the Jacobian is zero or not finite: there is nothing to split")
        if self.probes and not self.index_error <= 0.1:
            found.append(f"{self.probes} probes leave the index uncertain by {float(self.index_error):.1g}: take more")
        blurred = np.asarray(self.circulation_errors) > 0.1 * np.abs(self.circulations)
        if np.any(blurred & (np.abs(self.circulations) > np.asarray(self.circulation_errors))):
            found.append("a loop's quadrature is good to less than a digit: the field is rough there, take more nodes")
        if self.single_precision:
            found.append("float32: an index below 1e-10 and a circulation below its error are rounding")
        return tuple(found)


def field_split(
    system: Any,
    state: Any,
    *,
    at: Any = 0,
    key: Key | None = None,
    probes: int | None = None,
    radii: Any = (),
    loops: int = 16,
    nodes: int = 32,
) -> FieldSplit:
    r"""Return the share of a field that turns, by its Jacobian and round loops.

        index = |A|^2/(|A|^2 + |S|^2),   J = S + A

    **Arguments:**

    - `system`: a `Flow` or an `SDE` (its drift); a `NearIdentityMap` (its limit); any other `Map` (F(x) - x).
    - `state`: where. `at`: time or step number.
    - `key`: draws probes and loops, and the randomness of a system that has any, held fixed.
    - `probes`: how many random vectors estimate the norms; by default none where J has at most 512 columns and is
      formed, else 64.
    - `radii`: of the circles round which the field is integrated, in the units of the state; none by default.
    - `loops`, `nodes`: circles of each radius, in random planes, and field evaluations on each (even; the quadrature
      converges geometrically for an analytic field).

    **Returns:** a `FieldSplit`.

    **Raises:** `ValueError` for probes or loops without a key, and for numbers out of range; `TypeError` for what is no
    system.

    **Example:** the smallest GAN with a gradient penalty g has J = ((0, -1/2), (1/2, -g)): index (1/2)/(1/2 + g^2).

    >>> import jax.numpy as jnp, separatrix as sx
    >>> gan = sx.games.field(sx.games.DiracGAN(1.0))
    >>> round(float(sx.field_split(gan, (jnp.array(0.0), jnp.array(0.0))).index), 12)
    0.333333333333

    **Reference:** Balduzzi et al., *The mechanics of n-player differentiable games* (2018), for the two parts;
    Hutchinson, *A stochastic estimator of the trace of the influence matrix* (1990); Trefethen & Weideman, *The
    exponentially convergent trapezoidal rule* (2014).
    """
    check_key("field_split", key)
    field, state = field_of(system, key), checked_state("field_split: state", state)
    check_finite("field_split: radii", np.asarray(radii, float) if not is_traced(radii) else radii)
    jacobian = Jacobian(field, state, at=at)
    dtype = float_dtype(state)
    radii = jnp.asarray(radii, dtype)
    radii = radii[None] if radii.ndim == 0 else radii
    count = _count(probes, jacobian.size)
    _check(jacobian.size, count, radii, loops, nodes, key)
    keys = jax.random.split(key) if key is not None and (count or radii.size) else None
    matrix = None if count else jacobian.matrix()
    parts = _formed(matrix) if keys is None or not count else _probed(jacobian, jax.random.split(keys[0], count))
    edge = jnp.asarray(np.nan if matrix is None else _euler_edge(matrix), dtype)
    none = jnp.asarray(np.zeros((0, loops)), dtype)
    values, errors, turning = none, none, jnp.asarray(np.zeros(0), dtype)
    if keys is not None and radii.size:
        circles = [_circulation(jacobian, r, jax.random.split(keys[1], loops), nodes) for r in radii]
        values, errors, shares = (jnp.stack(part) for part in zip(*circles, strict=True))
        turning = jnp.sqrt(jnp.mean(shares**2, axis=1))
    single = radii.dtype == jnp.float32
    return FieldSplit(
        *[*parts, edge, radii, values, errors, turning], probes=count, size=jacobian.size, single_precision=single
    )


def _count(probes: int | None, size: int) -> int:
    if probes is None:
        return 0 if size <= _DENSE else _PROBES
    return check_count("field_split: probes, whose spread is the standard error", probes, 2)


def _check(size: int, count: int, radii: Any, loops: int, nodes: int, key: Any) -> None:
    if key is None and (count or radii.size):
        do = "Pass key=jax.random.key(0)."
        raise ValueError(explain("field_split: probes and loops are random", "key=None", "a PRNG key", do))
    if not is_traced(radii) and np.any(np.asarray(radii) <= 0):
        raise ValueError(
            explain("field_split: radii", np.asarray(radii), "positive numbers", "Pass for example (0.1,).")
        )
    if radii.size and (size < 2 or loops < 1 or nodes < 8 or nodes % 2):
        got = f"{size} coordinates, loops={loops}, nodes={nodes}"
        do = "Leave radii out in one dimension, where every field is a gradient."
        raise ValueError(explain("field_split: radii", got, "2 coordinates, a loop, an even number of nodes >= 8", do))


@jax.jit
def _formed(matrix: Any) -> tuple[Any, ...]:
    """Both parts from the matrix, without error."""
    symmetric, turning = (jnp.sum(((matrix + sign * matrix.T) / 2) ** 2) for sign in (1, -1))
    zero = jnp.zeros_like(turning)
    return turning / (turning + symmetric), zero, symmetric, zero, turning, zero, jnp.trace(matrix), zero


def _euler_edge(matrix: Any) -> float:
    """The step size up to which Euler's steps do not grow, with what is zero to the root of rounding as zero."""
    if is_traced(matrix) or not np.isfinite(matrix).all():
        return np.nan
    rounding = float(jnp.finfo(matrix.dtype).eps) ** 0.5 * max(float(np.linalg.norm(matrix, 2)), 1e-300)
    return euler_edge(np.linalg.eigvals(np.asarray(matrix, float)), rounding)


@eqx.filter_jit
def _probed(jacobian: Jacobian, keys: Any) -> tuple[Any, ...]:
    """Both parts from products with random vectors; the error of their ratio by its linearisation (the delta method)."""

    def one(key: Any) -> Any:
        v = jax.random.normal(key, (jacobian.size,), jacobian.point.dtype)
        forward, backward = jacobian.mv(v), jacobian.rmv(v)
        return jnp.stack([jnp.sum((forward + backward) ** 2) / 4, jnp.sum((forward - backward) ** 2) / 4, v @ forward])

    samples = jax.vmap(one)(keys)
    symmetric, turning, divergence = samples.mean(axis=0)
    errors = samples.std(axis=0, ddof=1) / np.sqrt(len(keys))
    index = turning / (turning + symmetric)
    spread = jnp.std(samples[:, 1] - index * (samples[:, 0] + samples[:, 1]), ddof=1) / np.sqrt(len(keys))
    return index, spread / (turning + symmetric), symmetric, errors[0], turning, errors[1], divergence, errors[2]


@eqx.filter_jit
def _circulation(jacobian: Jacobian, radius: Any, keys: Any, nodes: int) -> tuple[Any, Any, Any]:
    """(oint f . dl/(pi r^2), its error, oint f . dl/oint |f| dl) round a circle for each key."""
    angles = 2 * jnp.pi * jnp.arange(nodes, dtype=radius.dtype) / nodes

    def one(key: Any) -> tuple[Any, Any, Any]:
        plane = jnp.linalg.qr(jax.random.normal(key, (jacobian.size, 2), radius.dtype))[0]
        out = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
        along = jnp.stack([-jnp.sin(angles), jnp.cos(angles)], axis=1)
        field = jax.vmap(lambda p: jacobian.image(jacobian.point + radius * (plane @ p)))(out)
        pieces = jnp.sum((field @ plane) * along, axis=1)
        sizes = jnp.linalg.norm(field, axis=1)
        # Half the nodes are a trapezoidal rule too; sums of n terms are rounded by about sqrt(n) eps.
        coarse, fine = jnp.mean(pieces[::2]), jnp.mean(pieces)
        rounding = float(jnp.finfo(radius.dtype).eps) * jnp.max(sizes)
        error = jnp.abs(fine - coarse) + 4 * rounding
        return 2 * fine / radius, 2 * error / radius, fine / jnp.where(jnp.mean(sizes) > 0, jnp.mean(sizes), 1.0)

    return jax.lax.map(one, keys)


def _applies(system: Any, state: State, key: Key | None = None) -> bool:
    """Whether a field is split: flows and SDEs, and maps that step simultaneously along one, in two dimensions or more."""
    if not 2 <= dimension_of(state) <= FORMED or (isinstance(system, Map) and not isinstance(system, NearIdentityMap)):
        return False
    return not isinstance(system, Map) or is_simultaneous(system, state, key)


def _ask(system: Any, state: State, *, at: Any = 0, key: Key | None = None) -> FieldSplit:
    """The share of a field that turns; more than 512 coordinates are probed, with a key of its own if none is given."""
    probed = dimension_of(state) > FORMED and key is None
    return field_split(system, state, at=at, key=jax.random.key(0) if probed else key)


def _judge(answer: FieldSplit, system: Any) -> list[Finding]:
    """The field falls more than it turns; broken where Euler's steps, of the length they have, lead away."""
    if float(answer.symmetric + answer.antisymmetric) == 0:
        # The field is the same all around: it neither falls nor turns.
        return []
    edge, own = float(answer.euler_edge), np.nan
    if isinstance(system, NearIdentityMap):
        own = float(system.step_size)
    turns = "the field turns more than it falls"
    if np.isnan(answer.index):
        turns = "its Jacobian is not finite"
    elif edge > 0:
        turns += f": simultaneous (Euler's) steps longer than {edge:.3g} spiral outward"
        turns += f", those of {own:.3g} do not" if own <= edge else ""
    elif edge == 0:
        turns += ": simultaneous (Euler's) steps spiral outward, however short"
    else:
        turns += ": long simultaneous (Euler's) steps spiral outward"
    do = "Step alternately, by extragradient or with a consensus term; a flow by a method of higher order."
    severity = "broken" if edge == 0 or own > edge else "caution"
    return [Finding("rotation index of the field", float(answer.index), "<", 0.5, turns, do, severity)]


register(Question("field_split", "does the field fall or turn?", _ask, _applies, _judge, rank=3))
