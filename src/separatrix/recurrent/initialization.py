r"""Weights drawn on the critical line, so that signals and gradients neither grow nor die, over depth or over time.

    depth   h_l = W_l phi(h_{l-1}) + b_l:   W_l ~ N(0, s_w/N),  b_l ~ N(0, s_b),  (s_w, s_b) with chi = 1;
            the first layer is scaled to these inputs, so that its fields have the variance q* at once
    time    x[n+1] = phi(W x[n] + V u[n] + b):  W ~ N(0, s_w/N) with chi = 1, for s_b = the variance of V u[n] + b
    measured

The larger what comes in, the more it saturates the units, and the larger the weights must be: at s_b = 0.05 tanh wants
s_w = 1.76 and not 1. Gaussian weights keep the mean square of a gradient; the spread of its singular values still
grows with depth, and orthogonal weights (`with_recurrent_gain`) of gain sqrt(s_w) keep it smaller.

**Reference:** Schoenholz et al., *Deep information propagation* (2017), section 3; Pennington, Schoenholz & Ganguli
(2017), for orthogonal weights; Molgedey, Schuchhardt & Schuster (1992), for inputs new at each step.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain
from separatrix._types import Key
from separatrix.recurrent.cells import Elman
from separatrix.recurrent.mean_fields import critical_weight_variance, mean_field
from separatrix.recurrent.reservoirs import checked_series
from separatrix.systems import ranges

_NAMES = {
    jnp.tanh: "tanh",
    jax.nn.tanh: "tanh",
    jax.nn.relu: "relu",
    jax.nn.selu: "selu",
    jnp.sin: "sine",
    jax.lax.erf: "erf",
    jax.scipy.special.erf: "erf",
}


def critical_initialization(net: Any, inputs: Any, *, key: Key, bias_variance: Any = 0.05) -> Any:
    r"""Return a net with new weights on the critical line: chi = 1.

    **Arguments:**

    - `net`: an `Elman` cell (tanh, ReLU or identity), or an `eqx.nn.MLP` whose activation is one of `mean_field`.
    - `inputs`: of the kind that it will hear, shape (T, input_size), not all zero: V u[n] of a cell, the first layer
      of an MLP are measured on them.
    - `key`: the weights. `bias_variance`: s_b of the hidden layers of an MLP; a cell keeps V and b, whose variance
      counts.

    **Returns:** the net; sizes, dtype and activation as they were. The last layer of an MLP is drawn from N(0, 1/N),
    without bias.

    **Raises:** `TypeError` for another net or activation; `ValueError` for inputs that do not fit or are all zero, a
    rectifier with s_b > 0 or with inputs in time, whose fields then grow without end.

    **Example:** units that are driven want a larger gain than 1.

    >>> import jax, jax.numpy as jnp, numpy as np, separatrix as sx
    >>> cell = sx.recurrent.Elman(1, 400, key=jax.random.key(0))
    >>> inputs = jax.random.normal(jax.random.key(1), (500, 1))
    >>> found = sx.recurrent.critical_initialization(cell, 10 * inputs, key=jax.random.key(2))
    >>> bool(400 * jnp.var(found.weight_hh) > 1.2)
    True

    **Reference:** Schoenholz et al. (2017), section 3; Poole et al. (2016), figure 1.
    """
    inputs = checked_series("critical_initialization: inputs", inputs, 1)
    if isinstance(net, Elman):
        return _in_time(net, inputs, key)
    if isinstance(net, eqx.nn.MLP):
        return _in_depth(net, inputs, key, bias_variance)
    do = "Pass sx.recurrent.Elman or eqx.nn.MLP; scale the gates of others by with_recurrent_gain."
    raise TypeError(explain("critical_initialization: net", type(net).__name__, "an Elman cell or an MLP", do))


def _in_time(cell: Elman, inputs: Any, key: Key) -> Elman:
    _require_size(inputs, cell.input_size)
    fields = inputs.astype(cell.bias.dtype) @ cell.weight_ih.T + cell.bias[None]
    size = cell.hidden_size
    linear = cell.activation == "identity"
    variance = 1.0 if linear else critical_weight_variance(cell.activation, float(jnp.mean(fields**2)))
    weight = _gaussian(key, (size, size), variance / size, cell.bias.dtype)
    return eqx.tree_at(lambda cell: cell.weight_hh, cell, weight)


def _in_depth(net: eqx.nn.MLP, inputs: Any, key: Key, bias_variance: Any) -> eqx.nn.MLP:
    _require_size(inputs, net.layers[0].in_features)
    ranges.nonnegative("critical_initialization: bias_variance", bias_variance, "Take 0.05.")
    s_b, name = float(bias_variance), _named(net.activation)
    s_w = critical_weight_variance(name, s_b)
    size = float(mean_field(name, s_w, s_b).size)
    # Where rest alone is critical there is no size to start from: that of the inputs themselves.
    power = float(jnp.mean(jnp.sum(inputs**2, axis=1)))
    ranges.positive("critical_initialization: mean square of inputs", power, "Pass inputs that are not all zero.")
    first = (size - s_b) / power if size > s_b else s_w / inputs.shape[1]
    keys = jax.random.split(key, 2 * len(net.layers))
    weights, biases = [], []
    for number, layer in enumerate(net.layers):
        last = number == len(net.layers) - 1
        variance = first if number == 0 else (1 if last else s_w) / int(layer.in_features)
        weights.append(_gaussian(keys[2 * number], layer.weight.shape, variance, layer.weight.dtype))
        shape, spread = layer.weight.shape[:1], 0.0 if last else s_b
        biases.append(_gaussian(keys[2 * number + 1], shape, spread, layer.weight.dtype))
    if s_b > 0 and any(layer.bias is None for layer in net.layers[:-1]):
        do = "Pass bias_variance=0.0, or a net with biases."
        raise ValueError(explain("critical_initialization: bias_variance", s_b, "0 for layers without biases", do))
    net = eqx.tree_at(lambda net: [layer.weight for layer in net.layers], net, weights)
    held = [i for i, layer in enumerate(net.layers) if layer.bias is not None]
    return eqx.tree_at(lambda net: [net.layers[i].bias for i in held], net, [biases[i] for i in held])


def _named(activation: Any) -> str:
    name = next((name for known, name in _NAMES.items() if activation is known), None)
    if name is None:
        expected = f"one of {', '.join(sorted(set(_NAMES.values())))}"
        do = "Take one of those, or ask mean_field for its own numbers."
        raise TypeError(explain("critical_initialization: activation", str(activation), expected, do))
    return name


def _gaussian(key: Key, shape: Any, variance: Any, dtype: Any) -> Any:
    return jnp.asarray(variance, dtype) ** 0.5 * jax.random.normal(key, shape, dtype)


def _require_size(inputs: Any, heard: Any) -> None:
    if inputs.shape[1] != heard:
        got, do = f"{inputs.shape[1]} columns", "Pass inputs as the net hears them."
        raise ValueError(explain("critical_initialization: inputs", got, f"{heard}", do))
