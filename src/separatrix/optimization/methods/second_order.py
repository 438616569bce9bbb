r"""Second order: the gradient in the metric of the curvature.

    Newton             x <- x - h H^{-1} grad L,            H = Hessian of L (+ damping)
    Gauss-Newton       x <- x - h (J^T J)^{-1} J^T r,       L = |r|^2/2, J = Dr (+ damping: Levenberg and Marquardt)
    natural gradient   x <- x - h F^{-1} grad L,            F = a metric, as the Fisher information (+ damping)

h = 1 is the pure method, h < 1 the damped one: explicit Euler of the limit. Limits, all without damping:

    Newton             x' = -H^{-1} grad L, along which  grad L(x(t)) = e^{-t} grad L(x(0))  exactly
    Gauss-Newton       x' = -(J^T J)^{-1} J^T r, along which r(t) = e^{-t} r(0) where J is square
    natural gradient   x' = -F^{-1} grad L, the same curve in whatever coordinates; a step of size h is not

Newton's map commutes with linear changes of variables. It is drawn to saddles and maxima as to minima: the flow
only makes the gradient vanish. `CubicNewton` is not.

Every matrix acts by products (forward over reverse); the system is solved by lineax, dense with up to 512 unknowns, by
conjugate gradients above, which need a positive definite matrix. A solve that fails gives NaN, so that `evolve` says where.
"""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx

from separatrix._errors import explain
from separatrix._tree import axpy, structure
from separatrix._types import Function, Key, Operator, Scalar, State
from separatrix.optimization.methods.descent import gradient
from separatrix.optimization.methods.moments import FromParameters
from separatrix.systems.map import NearIdentityMap
from separatrix.systems.objective import Objective, as_objective
from separatrix.systems.ranges import nonnegative, positive
from separatrix.systems.signature import as_pytree, positional_count

DENSE = 512


class Newton(FromParameters, NearIdentityMap):
    r"""x <- x - h (H + damping)^{-1} grad L(x).

    **Arguments:**

    - `objective`: L(parameters), twice differentiable.
    - `step_size`: h in (0, 2); 1 is Newton's method, which doubles the digits once it is near; less is damped.
    - `damping`: added to the Hessian.
    - `solver`: a lineax solver; by default LU with up to 512 parameters and conjugate gradients above.

    **Example:** one step solves a quadratic; the curvatures need not be positive.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> newton = sx.optimization.Newton(sx.optimization.Quadratic(jnp.array([1.0, 1e6])))
    >>> newton.step(0, newton.init(jnp.array([1.0, 1.0]))).tolist()
    [0.0, 0.0]

    **Reference:** Nocedal & Wright, *Numerical Optimization* (2006), section 3.3; Smale, *A convergent process of price
    adjustment and global Newton methods* (1976), for the flow.
    """

    objective: Objective
    step_size: Scalar
    damping: Scalar
    solver: Any

    def __init__(self, objective: Objective | Function, step_size: Any = 1.0, damping: Any = 0.0, solver: Any = None):
        self.objective = as_objective(objective)
        self.step_size = positive("Newton: step_size", step_size)
        self.damping = nonnegative("Newton: damping", damping)
        self.solver = _solver("Newton", solver)

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        slope, hessian = jax.linearize(lambda x: gradient(self.objective, x, key), state)
        return axpy(-step_size, solve(hessian, slope, self.damping, self.solver), state)


class GaussNewton(FromParameters, NearIdentityMap):
    r"""x <- x - h (J^T J + damping)^{-1} J^T r(x), for L = |r(x)|^2/2.

    **Arguments:**

    - `residual`: r(parameters), an array or tree: what should vanish, as model(parameters, inputs) - targets.
    - `step_size`: h in (0, 2); 1 is the pure method, exact in one step where r is affine.
    - `damping`: added to J^T J; needed where J has not full column rank.
    - `solver`: a lineax solver; by default Cholesky with up to 512 parameters and conjugate gradients above.

    **Example:** a line through three points, in one step.

    >>> import jax.numpy as jnp, separatrix as sx
    >>> times, values = jnp.array([0.0, 1.0, 2.0]), jnp.array([1.0, 3.0, 5.0])
    >>> line = sx.optimization.GaussNewton(lambda p: p[0] + p[1] * times - values)
    >>> line.step(0, line.init(jnp.zeros(2))).round(6).tolist()
    [1.0, 2.0]

    **Reference:** Nocedal & Wright, *Numerical Optimization* (2006), section 10.3.
    """

    residual: Function
    step_size: Scalar
    damping: Scalar
    solver: Any

    def __init__(self, residual: Function, step_size: Any = 1.0, damping: Any = 0.0, solver: Any = None):
        positional_count(residual, (1,), "r(parameters)")
        self.residual = as_pytree(residual)
        self.step_size = positive("GaussNewton: step_size", step_size)
        self.damping = nonnegative("GaussNewton: damping", damping)
        self.solver = _solver("GaussNewton", solver)

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        r, push = jax.linearize(self.residual, state)
        pull = _transpose(push, state)
        direction = solve(lambda v: pull(push(v)), pull(r), self.damping, self.solver, lx.positive_semidefinite_tag)
        return axpy(-step_size, direction, state)


class NaturalGradient(FromParameters, NearIdentityMap):
    r"""x <- x - h (F(x) + damping)^{-1} grad L(x): steepest descent in the metric F.

    **Arguments:**

    - `objective`: L(parameters), or L(parameters, *, key).
    - `metric`: F(x) v as a function of (parameters, v), symmetric and positive; `fisher` makes one of a model.
    - `step_size`: h > 0. `damping`: added to F; needed where it is singular, as with a softmax over all classes.
    - `solver`: a lineax solver; by default Cholesky with up to 512 parameters and conjugate gradients above.

    **Example:** the mean of a Bernoulli variable, in logits, with the Fisher metric: the mean relaxes as e^{-t}.

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> loss = lambda u: jnp.sum(jnp.logaddexp(0.0, u) - 0.25 * u)  # observed frequency 1/4
    >>> metric = lambda u, v: jax.nn.sigmoid(u) * jax.nn.sigmoid(-u) * v
    >>> descent = sx.optimization.NaturalGradient(loss, metric, step_size=0.1)
    >>> u = sx.evolve(sx.limit(descent), jnp.array([0.0]), times=(0.0, jnp.log(2.0))).final
    >>> round(float(jax.nn.sigmoid(u[0])), 4)  # half of the way from 1/2 to 1/4
    0.375

    **Reference:** Amari, *Natural gradient works efficiently in learning* (1998), theorem 1; Martens, *New insights and
    perspectives on the natural gradient method* (2020), for invariance in the limit only.
    """

    objective: Objective
    metric: Function
    step_size: Scalar
    damping: Scalar
    solver: Any

    def __init__(
        self,
        objective: Objective | Function,
        metric: Function,
        step_size: Any,
        damping: Any = 0.0,
        solver: Any = None,
    ):
        positional_count(metric, (2,), "F(parameters, v)")
        self.objective, self.metric = as_objective(objective), as_pytree(metric)
        self.step_size = positive("NaturalGradient: step_size", step_size)
        self.damping = nonnegative("NaturalGradient: damping", damping)
        self.solver = _solver("NaturalGradient", solver)

    def advance(self, t: Scalar, state: State, step_size: Scalar, *, key: Key | None = None) -> State:
        slope = gradient(self.objective, state, key)
        product = lambda v: self.metric(state, v)  # noqa: E731
        direction = solve(product, slope, self.damping, self.solver, lx.positive_semidefinite_tag)
        return axpy(-step_size, direction, state)


def fisher(log_probabilities: Function) -> Function:
    r"""Return the Fisher metric of a model of discrete outcomes, as a function of (parameters, v).

        F(x) v = (1/N) sum_i sum_k p_ik (grad log p_ik . v) grad log p_ik = (1/N) J^T diag(p) J v

    by one forward and one reverse product; the sum over outcomes is exact, not sampled.

    **Arguments:**

    - `log_probabilities`: of the parameters: log p of shape (N, K), each row normalised, as
      `jax.nn.log_softmax(model(parameters, inputs))`.

    **Returns:** F(parameters, v), to be given to `NaturalGradient`.

    **Example:** logits (u, 0) have the metric p (1 - p).

    >>> import jax, jax.numpy as jnp, separatrix as sx
    >>> metric = sx.optimization.fisher(lambda u: jax.nn.log_softmax(jnp.stack([u, 0 * u], axis=1)))
    >>> metric(jnp.array([0.0]), jnp.array([1.0])).tolist()
    [0.25]

    **Reference:** Martens, *New insights and perspectives on the natural gradient method* (2020), section on the Fisher
    and the generalised Gauss-Newton matrix.
    """
    positional_count(log_probabilities, (1,), "log p(parameters)")

    def metric(parameters: State, v: State) -> State:
        logs, push = jax.linearize(log_probabilities, parameters)
        if jnp.ndim(logs) != 2:
            do = "Return log p of shape (examples, outcomes)."
            raise ValueError(explain("fisher: log_probabilities", f"shape {jnp.shape(logs)}", "(N, K)", do))
        return _transpose(push, parameters)(jnp.exp(logs) * push(v) / logs.shape[0])

    return metric


def solve(product: Function, right: State, damping: Scalar, solver: Any, tags: Any = lx.symmetric_tag) -> State:
    """(A + damping)^{-1} b for a symmetric A known by its products; NaN where the solver fails."""
    operator = lx.FunctionLinearOperator(lambda v: axpy(damping, v, product(v)), structure(right), tags)
    solver = _by_size(operator, tags) if solver is None else solver
    if isinstance(solver, lx.CG):
        operator = lx.TaggedLinearOperator(operator, lx.positive_semidefinite_tag)
    solution = lx.linear_solve(operator, right, solver, throw=False)
    good = solution.result == lx.RESULTS.successful
    return jax.tree.map(lambda leaf: jnp.where(good, leaf, jnp.full_like(leaf, jnp.nan)), solution.value)


def _by_size(operator: Operator, tags: Any) -> Any:
    """Dense up to `DENSE` unknowns, by products above."""
    if operator.in_size() > DENSE:
        return lx.CG(rtol=1e-8, atol=1e-8)
    return lx.LU() if tags is lx.symmetric_tag else lx.Cholesky()


def _transpose(push: Function, primal: State) -> Function:
    """The transpose of a linear function."""
    pull = jax.linear_transpose(push, primal)
    return lambda cotangent: pull(cotangent)[0]


def _solver(name: str, solver: Any) -> Any:
    if solver is not None and not isinstance(solver, lx.AbstractLinearSolver):
        do = "Pass for example lineax.CG(rtol=1e-6, atol=1e-6)."
        raise TypeError(explain(f"{name}: solver", type(solver).__name__, "a lineax solver, or None", do))
    return solver
