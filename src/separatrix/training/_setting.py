"""From the arguments of `fit` to what is run: objective, map, state, batches, what is measured and what is kept."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.extend.core import find_top_trace

from separatrix._errors import explain
from separatrix._tree import is_traced
from separatrix.training import _options as options
from separatrix.training._batches import Batches
from separatrix.training._binding import (
    METRIC_STREAM,
    bind,
    first_state,
    initial_of,
    is_on_data,
    map_of,
    measure_of,
    require_trainable,
)
from separatrix.training._course import Course
from separatrix.training._devices import mesh_of
from separatrix.training._examples import check_batch_size, drawn, examples_of, pair_of
from separatrix.training._feeding import examples_at, is_on_disk, lengths_on_disk
from separatrix.training._forms import ModelForm, split
from separatrix.training._guard import alone, guarded, objective_of
from separatrix.training._validation import Validation, held_out
from separatrix.training.monitored import stride_of
from separatrix.training.trackers import trackers_of


@dataclasses.dataclass
class Setting:
    """The arguments of `fit`, and what `set_up` makes of them."""

    objective: Any
    optimizer: Any
    data: Any
    initial: Any
    steps: Any
    epochs: Any
    batch_size: Any
    key: Any
    metrics: Any
    every: Any
    validation: Any
    patience: Any
    average: Any
    divergence: Any
    draw: Any
    last_batch: Any
    callback: Any
    run: Any
    save_every: Any
    progress: Any
    monitor: Any
    tracker: Any
    devices: Any
    state: Any
    start: Any

    length: Any = None
    form: Any = None
    map: Any = None  # as the user made it
    running: Any = None
    first: Any = None
    measure: Any = None
    batches: Any = None
    on_disk: Any = None  # data that stay in their files
    validate: Any = None
    mesh: Any = None  # of devices that share batches

    @property
    def is_traced(self) -> bool:
        """Whether numbers of the run are not known yet."""
        # A learning rate that is swept stands in an optimiser's own functions, where nobody sees it.
        return is_traced(self.running, self.first, self.key) or _inside_a_trace()

    @property
    def is_whole(self) -> bool:
        """Whether the run goes through `evolve` as a whole: while tracing, or under a monitor alone."""
        return self.is_traced or (self.monitor is not None and not self.between)

    @property
    def between(self) -> list[str]:
        """What looks on between pieces of the run, or needs that there are some."""
        looks = {
            "validation": self.validation is not None, "callback": self.callback is not None, "run": self.run is not None,
            "roll_back": self.divergence == "roll_back", "data on disk": self.on_disk is not None,
            "tracker": bool(self.tracker), "devices": self.mesh is not None,
        }  # fmt: skip
        return [name for name, is_used in looks.items() if is_used]


def _inside_a_trace() -> bool:
    """Whether a transformation of JAX is tracing whoever called."""
    return type(find_top_trace(())).__name__ != "EvalTrace"


def set_up(asked: Setting) -> Setting:
    """Check all arguments, and make what is run."""
    _check_words(asked)
    asked.mesh = mesh_of(asked.devices)
    initial = initial_of(asked.objective, asked.initial)
    parameters, asked.form = split(initial, "fit: initial")
    require_trainable(initial, parameters)
    validation = _data_and_validation(asked)
    bound = _bound(asked, asked.form)
    asked.map = alone(map_of(bound, asked.optimizer))
    asked.length = options.length(
        asked.steps, asked.epochs, asked.batches and asked.batches.per_epoch, asked.start, asked.every
    )
    asked.running = _course(asked, guarded(asked.map), asked.form)
    asked.first = first_state(asked.running, parameters, asked.state)
    own = objective_of(asked.map)
    asked.measure = measure_of(own, asked.key, asked.metrics, asked.form, asked.running)
    if asked.validation is not None:
        if not is_on_data(own):
            do = "Pass a loss l(model, batch) and data, or a supervised objective."
            raise ValueError(explain("fit: validation", type(own).__name__, "a loss on data", do))
        if "validation" in asked.measure.metrics:
            do = "Give it another name: the loss on validation= is measured under this one."
            raise ValueError(explain("fit: metrics", '"validation"', "names of your own", do))
        asked.validate = Validation(own, validation, asked.measure.key)
    _check_combinations(asked)
    if asked.monitor is not None:
        every = stride_of(asked.monitor, asked.length.every)
        asked.length = asked.length._replace(every=every)
    return asked


def _check_words(asked: Setting) -> None:
    options.word("divergence", asked.divergence, options.DIVERGENCE)
    options.word("last_batch", asked.last_batch, options.LAST_BATCH)
    if asked.draw is not None and asked.data is None and not is_on_data(asked.objective):
        do = "Pass data=, or leave it out."
        raise ValueError(explain("fit: draw", repr(asked.draw), "none, without data", do))
    if asked.draw is None:
        asked.draw = "replacement" if asked.epochs is None else "epochs"
    options.word("draw", asked.draw, options.DRAW)
    if asked.last_batch == "drop" and asked.draw == "replacement":
        do = 'Say draw="epochs", or leave it out.'
        raise ValueError(explain("fit: last_batch", '"drop"', '"keep", where no batch is a last one', do))
    asked.average = options.decay(asked.average)
    asked.patience = options.patience(asked.patience, asked.validation)
    options.callable_or_none("callback", asked.callback, "Pass callback(step, model, metrics).")
    if asked.progress is not None and not isinstance(asked.progress, bool):
        options.callable_or_none("progress", asked.progress, "Pass True, or progress(done, total).")
    asked.tracker = trackers_of(asked.tracker)
    if asked.run is not None and (asked.state is not None or asked.start != 0):
        do = "Leave out state and start: the folder knows where it stands."
        raise ValueError(explain("fit: run", f"a folder and start={asked.start}", "one of them", do))


def _data_and_validation(asked: Setting) -> Any:
    """Look at the data; return those to validate on."""
    data, objective = asked.data, asked.objective
    if is_on_data(objective):
        data = objective.data if data is None else data
        asked.batch_size = objective.batch_size if asked.batch_size is None else asked.batch_size
    elif data is None and asked.validation is not None and options.is_share(asked.validation):
        do = "Pass the data to train on as data=."
        raise ValueError(explain("fit: validation", asked.validation, "data to hold out a share of", do))
    if data is not None:
        data = _as_examples(data)
    validation = None
    if asked.validation is not None and not options.is_share(asked.validation):
        validation = _as_examples(asked.validation, "fit: validation")
    elif asked.validation is not None:
        data, validation = held_out(data, _count(data), asked.validation, asked.key)
    asked.data, asked.on_disk = data, data if is_on_disk(data) else None
    if data is not None:
        asked.batches = _batches(asked, _count(data))
    return validation


def _as_examples(data: Any, what: str = "fit: data") -> Any:
    data = pair_of(data)
    if is_on_disk(data):
        lengths_on_disk(data, what)
        return data
    return examples_of(data, what)[0]


def _count(data: Any) -> int:
    return jax.tree.leaves(data)[0].shape[0]


def _batches(asked: Setting, count: int) -> Batches:
    size = count if asked.batch_size is None else asked.batch_size
    check_batch_size(size, count, "fit: batch_size")
    if asked.on_disk is not None and asked.batch_size is None:
        do = "Pass batch_size=, how many examples fit in memory at once."
        raise ValueError(explain("fit: batch_size", "None, for data on disk", "a number of examples", do))
    draw = asked.draw if asked.batch_size is not None else "epochs"
    return Batches(asked.key, count, int(size), draw, asked.last_batch == "drop")


def _bound(asked: Setting, form: ModelForm) -> Any:
    """The objective on its data; on one fixed batch where the data stay on disk."""
    if asked.on_disk is None:
        return bind(asked.objective, asked.data, asked.batch_size, form, asked.key)
    if asked.key is None:
        do = "Pass key=jax.random.key(0), from which batches are drawn."
        raise ValueError(explain("fit: key", "None with data on disk", "a PRNG key", do))
    # The batch of the metric, as it is drawn in memory.
    key = jax.random.split(jax.random.fold_in(asked.key, METRIC_STREAM))[0]
    places = np.asarray(drawn(key, asked.batches.size, asked.batches.count))
    return bind(asked.objective, examples_at(asked.on_disk, places), None, form, asked.key)


def _course(asked: Setting, map: Any, form: ModelForm) -> Any:
    """The map that runs: the guarded one, alone where nothing is carried beside it."""
    chooses = asked.batches is not None and (
        asked.on_disk is not None or ((asked.draw == "epochs" or asked.mesh) and asked.batch_size is not None)
    )
    if chooses and not is_on_data(objective_of(map)):
        do = "Say steps=, or pass a loss l(model, batch) and data."
        raise ValueError(explain("fit: draw", "an objective that draws its own batches", "data by batches", do))
    if asked.mesh is not None and not is_on_data(objective_of(map)):
        do = "Pass a loss l(model, batch) and data, or leave devices= out."
        raise ValueError(explain("fit: devices", "an objective without data", "batches to share out", do))
    plain = asked.average is None and form.layers is None and asked.divergence == "stop" and asked.mesh is None
    if not chooses and plain:
        return map
    batches = asked.batches if chooses else None
    return Course(map, batches, None, asked.average, form.layers, asked.divergence, asked.mesh)


def _check_combinations(asked: Setting) -> None:
    """Refuse what looks on between pieces of a run where there are none."""
    used = asked.between
    if asked.is_traced and (used or asked.progress):
        do = "Leave it out, or call fit outside of jit and vmap."
        got = f"{' and '.join(used or ['progress'])} in a run that is being traced"
        raise TypeError(explain("fit", got, "a run whose numbers are known", do))
    stateful = [] if asked.form.layers is None else ["layers that have state"]
    hidden = [name for name in used if name == "data on disk"] + stateful
    if asked.monitor is not None and hidden:
        got = f"a monitor with {' and '.join(hidden)}"
        raise ValueError(explain("fit: monitor", got, "a monitor by itself", "Leave one of them out."))
