"""The two ways of a run: as a whole through `evolve`, or in pieces with somebody who looks on."""

from typing import Any

from separatrix.evolution.pieces import checked_start
from separatrix.systems.trajectory import OutcomeKind
from separatrix.training._binding import layers_of, with_form
from separatrix.training._course import CourseState
from separatrix.training._devices import gathered, is_follower, meet, peer_lost, placed
from separatrix.training._driver import Best, Driver, Trip
from separatrix.training._feeding import Feeder
from separatrix.training._fingerprint import digest_of, digest_of_data
from separatrix.training._keeping import Keeper, follow, keeper_of, require_not_past
from separatrix.training._progress import teller
from separatrix.training._running import ended_of, judged, run, schedule, stopped_at
from separatrix.training._setting import Setting
from separatrix.training._validation import Patience
from separatrix.training._watching import Watching
from separatrix.training.averaging import PowerAverage
from separatrix.training.monitored import run_monitored
from separatrix.training.result import Events, Fit
from separatrix.training.run import Run


def watched_or_traced(asked: Setting) -> Fit:
    """The run as a whole."""
    steps, start, every = asked.length
    line = teller(asked.progress, steps)
    progress = (lambda done, _: line.say(done, {})) if asked.progress else None
    settings = {"steps": steps, "key": asked.key, "start": start, "progress": progress}
    if asked.monitor is None:
        last, rows, ended = run(asked.running, asked.first, asked.measure, every, settings)
    else:
        watched = asked.monitor, asked.map
        last, rows, ended = run_monitored(asked.running, asked.first, asked.measure, every, settings, *watched)
    line.close()
    ended = judged(ended, rows["loss"], start + steps, asked.running)
    form, layers = asked.form, layers_of(last)
    average = last.average if isinstance(last, CourseState) else None
    averaged = None if average is None else with_form(form, layers).model(average)
    model = with_form(form, layers).model(asked.running.parameters(last))
    numbers = schedule(start, steps, every)
    return Fit(model, last, numbers, rows, ended, stopped_at(ended, asked.running), asked.map, averaged)


def travel(asked: Setting) -> Fit:
    """The run in pieces."""
    steps, start, every = asked.length
    asked.first = checked_start(asked.running, asked.first, asked.key, "fit")
    mesh = asked.mesh
    asked.running, asked.first, asked.measure, asked.key = placed(
        (asked.running, asked.first, asked.measure, asked.key), mesh
    )
    keeper = taken_by_all(mesh, asked.run, spec_of(asked), asked.save_every, asked.length.end)
    if not is_follower():
        keeper.tell(asked.tracker, {"steps": steps, "batch_size": asked.batch_size})
    try:
        feeder = None
        if asked.on_disk is not None:
            feeder = Feeder(asked.on_disk, asked.batches, asked.length.end)
        line = teller(None if is_follower() else asked.progress, steps)
        trip = Trip(
            asked.running, asked.key, start, asked.length.end, every, asked.measure, asked.form, asked.divergence, keeper,
            line, Patience(asked.patience), asked.validate, asked.callback, feeder,
            asked.batches.per_epoch if asked.batches is not None and asked.draw == "epochs" else None,
            None if asked.monitor is None else Watching(asked.monitor, asked.map), mesh,
        )  # fmt: skip
        driver = Driver(trip, asked.first)
        best = Best(asked.running.parameters(asked.first), layers_of(asked.first))
        found = keeper.found(gathered(asked.first, mesh), gathered(best, mesh))
        if mesh is not None:
            meet("found")
        if found is not None:
            if isinstance(asked.run, Run):
                require_not_past(asked.run, found.step, asked.length.end)
            driver.take_up(found._replace(state=placed(found.state, mesh), best=placed(found.best, mesh)))
    except BaseException as error:
        keeper.give_up(error)
        raise
    try:
        driver.go()
    except (RuntimeError, ValueError) as error:
        lost = peer_lost(error, asked.run)
        if lost is None:
            raise
        raise lost from error
    if mesh is not None:
        driver.state, driver.best = gathered(driver.state, mesh), gathered(driver.best, mesh)
        asked.running, asked.map = gathered(asked.running, mesh), gathered(asked.map, mesh)
        meet("done")
    return _fit_of(asked, driver)


def taken_by_all(mesh: Any, *asked: Any) -> Keeper:
    """The run's folder: the first process takes it, then the others read what it holds."""
    if mesh is None:
        return keeper_of(*asked)
    if is_follower():
        meet("taken")
        return follow(*asked)
    try:
        return keeper_of(*asked)
    finally:
        meet("taken")


def _fit_of(asked: Setting, driver: Driver) -> Fit:
    steps, start, every = asked.length
    assert driver.ended is not None
    ended = ended_of(driver.ended, driver.broke, asked.running)
    if driver.ended is OutcomeKind.NON_FINITE:
        driver.rows.blank(schedule(start, steps, every))
    numbers, rows = driver.rows.arrays()
    ended = judged(ended, rows["loss"], int(numbers[-1]), asked.running)
    best = None if driver.best is None else driver.model(*driver.best)
    return Fit(
        driver.model(), driver.state, numbers, rows, ended, stopped_at(ended, asked.running), asked.map, driver.averaged,
        best, driver.trip.patience.step, Events(driver.events),
    )  # fmt: skip


def spec_of(asked: Setting) -> dict[str, Any]:
    """What was asked, as plain values: what a run folder keeps, and by which the same call is known again."""
    if asked.run is None:
        return {}
    average = asked.average
    if average is not None:
        average = f"width {average.width}" if isinstance(average, PowerAverage) else float(average)
    validation = asked.validation
    if validation is not None and not isinstance(validation, int | float):
        validation = digest_of_data(validation)
    return {
        "steps": asked.length.steps, "every": asked.length.every, "batch_size": asked.batch_size, "draw": asked.draw,
        "last_batch": asked.last_batch, "average": average, "divergence": asked.divergence, "patience": asked.patience,
        "validation": validation, "key": digest_of(asked.key), "objective": digest_of(asked.objective),
        "optimizer": digest_of(asked.optimizer), "data": digest_of_data(asked.data) if asked.data is not None else None,
        "initial": digest_of(asked.first), "metrics": digest_of(asked.metrics),
    }  # fmt: skip
