r"""Generative adversarial networks, as a game on batches.

With logits D(x) of the discriminator, s(u) = log(1 + e^u), real x and generated y = G(z), z ~ N(0, I), in pairs:

    loss              discriminator                               generator
    non_saturating    E s(-D(x)) + E s(D(y))                      E s(-D(y))
    saturating        the same                                    -E s(D(y))
    least_squares     E (D(x) - 1)^2/2 + E D(y)^2/2               E (D(y) - 1)^2/2
    hinge             E max(0, 1 - D(x)) + E max(0, 1 + D(y))     -E D(y)
    wasserstein       E D(y) - E D(x)                             -E D(y)
    relativistic      E s(D(y) - D(x))                            E s(D(x) - D(y))

and to the discriminator's is added

    (gamma/2) E |grad D(x)|^2 + (gamma_2/2) E |grad D(y)|^2 + (gamma_0/2) E (|grad D(u x + (1-u) y)| - 1)^2

which are R1, R2 and the gradient penalty of Wasserstein's loss, u uniform in [0, 1]. Relativistic pairing with R1 and
R2 is R3GAN.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from separatrix._errors import explain, unknown
from separatrix._tree import is_traced
from separatrix._types import Checked, Key, Scalar
from separatrix.systems import ranges
from separatrix.systems.base import as_parameter, require_key

LOSSES = ("non_saturating", "saturating", "least_squares", "hinge", "wasserstein", "relativistic")


class _Scores(NamedTuple):
    """D(x) and D(y), shape (B,), and the penalties."""

    real: Any
    fake: Any
    regularity: Any


class GAN(eqx.Module):
    r"""The losses of generator and discriminator on a batch: an objective for `fit` with `Players`.

    **Arguments:**

    - `latent_size`: dimension of z, at least 1.
    - `loss`: one of those at the head of the page.
    - `penalty`, `fake_penalty`, `gradient_penalty`: gamma, gamma_2, gamma_0 >= 0: R1, R2, and that of a slope of
      length 1; traced leaves. With None the term is not computed at all.
    - `classes`: of a conditional GAN, how many; the batch is then (examples, labels), and both networks are called
      with a label beside: generator(z, label), discriminator(x, label). Generated examples have the labels of the
      batch.
    - `whole_batch`: the discriminator is called once on all examples (B, ...), and on labels (B,), and returns (B,):
      for one that compares examples with each other.

    Called as `gan((generator, discriminator), real, key=key)`; the generator maps one z (latent_size,) to one x, the
    discriminator one x to one number. Without a key it raises: there is no loss without noise. A third network, of the
    generator's form, follows it: its loss is |theta_3 - theta_1|^2/2, so that under `optax.sgd(1 - d)` it is the
    running average d theta_3 + (1 - d) theta_1, from which to sample.

    **Raises:** `ValueError` for an unknown loss, a latent size or number of classes out of range, or a negative
    penalty; where it is called, for networks that do not fit z, the data, or a number. Labels out of range are refused
    where they are known, by `fit` before it compiles; of traced ones the losses are NaN.

    **Example:**

    >>> import equinox as eqx, jax, jax.numpy as jnp, optax, separatrix as sx
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> networks = (eqx.nn.Linear(2, 2, key=keys[0]), eqx.nn.Linear(2, "scalar", key=keys[1]))
    >>> gan, data = sx.games.GAN(latent_size=2), jax.random.normal(keys[2], (100, 2))
    >>> run = sx.fit(gan, sx.games.Players(optax.sgd(0.1)), data, initial=networks, steps=5, batch_size=10, key=keys[2])
    >>> gan.sample(run.model[0], keys[0], 4).shape
    (4, 2)

    **Reference:** Goodfellow et al., *Generative adversarial nets* (2014), equation 1 and section 3; Mao et al., *Least
    squares GANs* (2017), equation 9; Lim & Ye, *Geometric GAN* (2017), for the hinge; Arjovsky, Chintala & Bottou
    (2017) for Wasserstein; Gulrajani et al. (2017), equation 3, for its penalty; Mescheder, Geiger & Nowozin (2018),
    equation 9, for R1 and R2; Huang et al., *The GAN is dead; long live the GAN!* (2024), equation 2; Karras et al.
    (2018), section 3, for comparing examples.
    """

    latent_size: int = eqx.field(static=True)
    loss: str = eqx.field(static=True)
    penalty: Scalar | None
    fake_penalty: Scalar | None
    gradient_penalty: Scalar | None
    classes: int | None = eqx.field(static=True)
    whole_batch: bool = eqx.field(static=True)

    def __init__(
        self, latent_size: Checked[int], loss: Any = "non_saturating", penalty: Any = 0.0, *, fake_penalty: Any = None,
        gradient_penalty: Any = None, classes: Checked[int | None] = None, whole_batch: bool = False,
    ):  # fmt: skip
        if loss not in LOSSES:
            raise ValueError(unknown("GAN: loss", loss, LOSSES, "Leave it out."))
        weights = {"penalty": penalty, "fake_penalty": fake_penalty, "gradient_penalty": gradient_penalty}
        for name, weight in weights.items():
            if weight is not None:
                ranges.nonnegative(f"GAN: {name}", weight, "Leave it out for none.")
            setattr(self, name, as_parameter(weight))
        self.latent_size = ranges.whole("GAN: latent_size", latent_size, "Pass the dimension of the noise.")
        do = "Pass how many, or leave it out."
        self.classes = None if classes is None else ranges.whole("GAN: classes", classes, do, least=2)
        self.loss, self.whole_batch = loss, whole_batch

    def __call__(self, networks: Any, batch: Any, *, key: Key | None = None) -> tuple[Scalar, ...]:
        generator, discriminator = self._networks(networks)[:2]
        key = require_key(key, "GAN")
        real, labels = self._examples(batch)
        place = jax.random.fold_in(key, 1)
        fake = self._generate(generator, key, real.shape[0], real.dtype, labels)
        if fake.shape != real.shape:
            do = "Let the generator return one example of the shape of the data's."
            raise ValueError(explain("GAN: generator", f"shape {fake.shape[1:]}", f"{real.shape[1:]}", do))
        scores = self._scores(discriminator, real, fake, labels, place)
        losses = self._sound(self._losses(scores), labels)
        return losses if len(networks) == 2 else (*losses, _distance(networks[2], generator))

    def sample(self, generator: Any, key: Key, count: Checked[int], *, labels: Any = None) -> Any:
        """Return `count` >= 1 generated examples, in the dtype of the generator's parameters.

        **Arguments:** `labels`: of a conditional GAN, shape (count,), or one for all; drawn evenly by default.

        **Raises:** `ValueError` for a count below 1, labels of another shape or range, or labels of a GAN without
        classes.
        """
        ranges.whole("GAN.sample: count", count, "Say how many to draw.")
        dtype = jax.tree.leaves(eqx.filter(generator, eqx.is_inexact_array))[0].dtype
        return self._generate(generator, key, count, dtype, self._labels(labels, count))

    def _labels(self, labels: Any, count: int) -> Any:
        if self.classes is None:
            if labels is not None:
                do = "Leave them out, or make the GAN with classes=."
                raise ValueError(explain("GAN.sample: labels", "labels", "none, without classes", do))
            return None
        given = jnp.arange(count) % self.classes if labels is None else jnp.asarray(labels)
        ranges.indices("GAN.sample: labels", given, self.classes, "Pass labels as the data has them.")
        if given.shape not in ((), (count,)):
            do = "Pass one for each, or one for all."
            raise ValueError(explain("GAN.sample: labels", f"shape {given.shape}", f"({count},)", do))
        return jnp.broadcast_to(given, (count,))

    def _networks(self, networks: Any) -> Any:
        if not isinstance(networks, tuple | list) or len(networks) not in (2, 3):
            do = "Pass (generator, discriminator), and a third for the generator's average."
            raise TypeError(explain("GAN: networks", type(networks).__name__, "two networks, or three", do))
        return networks

    def _examples(self, batch: Any) -> tuple[Any, Any]:
        if self.classes is None:
            if isinstance(batch, tuple | list):
                do = "Pass data.inputs alone, or make the GAN with classes=."
                raise ValueError(explain("GAN: data", f"a {type(batch).__name__} of {len(batch)}", "examples", do))
            return _floating(batch), None
        examples, labels = self._pair(batch)
        return _floating(examples), self._codes(labels)

    def require_examples(self, data: Any) -> None:
        """Refuse data whose labels are out of range: `fit` and `sampled` ask once, before anything is compiled.

        **Raises:** `ValueError` for labels below 0, or as high as `classes`, or not of whole numbers.
        """
        if self.classes is not None:
            self._codes(self._pair(data)[1])

    def _pair(self, batch: Any) -> Any:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            do = "Pass (inputs, labels) as data."
            raise ValueError(explain("GAN: data", type(batch).__name__, "(examples, labels)", do))
        return batch

    def _codes(self, labels: Any) -> Any:
        """Labels in their range; of traced ones the range is not known."""
        do = "Count classes from 0, and pass classes= as many as there are."
        ranges.indices("GAN: labels", labels, self.classes or 0, do)
        return jnp.asarray(labels)

    def _sound(self, losses: tuple[Scalar, ...], labels: Any) -> tuple[Scalar, ...]:
        """Losses that are NaN, and their slopes too, where a traced label is out of range."""
        if not is_traced(labels):
            return losses
        inside = jnp.all((labels >= 0) & (labels < self.classes))
        return tuple(loss * jnp.where(inside, 1, jnp.nan).astype(jnp.result_type(loss)) for loss in losses)

    def _generate(self, generator: Any, key: Key, count: int, dtype: Any, labels: Any) -> Any:
        noise = jax.random.normal(key, (count, self.latent_size), dtype)
        try:
            return jax.vmap(generator)(noise, *(() if labels is None else (labels,)))
        except TypeError as error:
            expected = f"a network of one z, shape ({self.latent_size},){'' if labels is None else ', and its label'}"
            do = "Make latent_size the number of the generator's inputs."
            raise TypeError(explain("GAN: generator", _first_line(error), expected, do)) from error

    def _scored(self, discriminator: Any, examples: Any, labels: Any) -> Any:
        """D of each example, shape (B,)."""
        beside = () if labels is None else (labels,)
        try:
            scores = (discriminator if self.whole_batch else jax.vmap(discriminator))(examples, *beside)
        except TypeError as error:
            expected = (
                f"a network of one example, shape {examples.shape[1:]}{'' if labels is None else ', and its label'}"
            )
            do = "Let it take what the data hold: flatten them, or its input."
            raise TypeError(explain("GAN: discriminator", _first_line(error), expected, do)) from error
        if jnp.shape(scores) != (examples.shape[0],):
            got = f"shape {jnp.shape(scores)} of a batch of {examples.shape[0]}"
            do = 'Let it end in a scalar: eqx.nn.MLP(..., out_size="scalar", ...).'
            raise ValueError(explain("GAN: discriminator", got, "one number for each example", do))
        return scores

    def _scores(self, discriminator: Any, real: Any, fake: Any, labels: Any, key: Key) -> _Scores:
        """D on both halves, and the penalties; slopes are taken only where a penalty asks for them."""

        def scores_and(weight: Any, examples: Any, penalty: Any) -> tuple[Any, Any]:
            if weight is None:
                return self._scored(discriminator, examples, labels), 0.0

            def total(x: Any) -> tuple[Any, Any]:
                scores = self._scored(discriminator, x, labels)
                return jnp.sum(scores), scores

            slopes, scores = jax.grad(total, has_aux=True)(examples)
            squares = jnp.sum(slopes**2, axis=tuple(range(1, slopes.ndim)))
            return scores, jnp.asarray(weight, scores.dtype) / 2 * jnp.mean(penalty(squares))

        def from_one(squares: Any) -> Any:
            # The root of 0 has no slope: lengths are taken as 1e-12 at least.
            return (jnp.sqrt(jnp.maximum(squares, jnp.asarray(1e-24, squares.dtype))) - 1) ** 2

        on_real, first = scores_and(self.penalty, real, lambda squares: squares)
        on_fake, second = scores_and(self.fake_penalty, fake, lambda squares: squares)
        third = 0.0
        if self.gradient_penalty is not None:
            share = jax.random.uniform(key, (real.shape[0],) + (1,) * (real.ndim - 1), real.dtype)
            _, third = scores_and(self.gradient_penalty, share * real + (1 - share) * fake, from_one)
        return _Scores(on_real, on_fake, first + second + third)

    def _losses(self, scores: _Scores) -> tuple[Scalar, Scalar]:
        real, fake, regularity = scores
        soft, mean = jax.nn.softplus, jnp.mean
        match self.loss:
            case "wasserstein":
                return -mean(fake), mean(fake) - mean(real) + regularity
            case "hinge":
                return -mean(fake), mean(jax.nn.relu(1 - real)) + mean(jax.nn.relu(1 + fake)) + regularity
            case "least_squares":
                return mean((fake - 1) ** 2) / 2, mean((real - 1) ** 2) / 2 + mean(fake**2) / 2 + regularity
            case "relativistic":
                return mean(soft(real - fake)), mean(soft(fake - real)) + regularity
        own = -mean(soft(fake)) if self.loss == "saturating" else mean(soft(-fake))
        return own, mean(soft(-real)) + mean(soft(fake)) + regularity


def _distance(follower: Any, leader: Any) -> Scalar:
    """|theta_3 - theta_1|^2/2."""
    forms = [jax.tree.map(jnp.shape, eqx.filter(net, eqx.is_inexact_array)) for net in (follower, leader)]
    if jax.tree.leaves(forms[0]) != jax.tree.leaves(forms[1]):
        do = "Pass (generator, discriminator, generator)."
        raise ValueError(explain("GAN: networks[2]", "another form", "that of the generator, to be its average", do))
    pairs = zip(*(jax.tree.leaves(eqx.filter(net, eqx.is_inexact_array)) for net in (follower, leader)), strict=True)
    return jnp.sum(jnp.stack([jnp.sum((own - other) ** 2) for own, other in pairs])) / 2


def _floating(examples: Any) -> Any:
    """Examples of floating-point numbers."""
    if not jnp.issubdtype(jnp.asarray(examples).dtype, jnp.floating):
        do = "Scale pictures to [0, 1], as float32."
        raise ValueError(explain("GAN: data", str(jnp.asarray(examples).dtype), "floating-point numbers", do))
    return examples


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
