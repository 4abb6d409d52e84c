"""When steps are sampled; the clock is a made one."""

import pytest

from fathom.doctor import schedule as module
from fathom.doctor.schedule import Schedule
from fathom.engine.errors import ArgumentError


class Clock:
    now = 0.0
    idle = 0.0  # of the time on the clock, what the process waited

    def perf_counter(self):
        return self.now

    def process_time(self):
        return self.now - self.idle


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def sampled(clock, steps, step_seconds, cost, **options):
    schedule, found = Schedule(**options), []
    for step in range(steps):
        if schedule.due(step):
            found.append(step)
            schedule.took(cost)
            clock.now += cost
        clock.now += step_seconds
    return found, schedule


def test_powers_of_two_then_each_64th(clock):
    found, _ = sampled(clock, 300, 1.0, 1e-4)
    assert found == [0, 1, 2, 4, 8, 16, 32, 64, 128, 192, 256]


@pytest.mark.parametrize("step_seconds", [0.0005, 0.002, 0.02])
@pytest.mark.parametrize("cost", [0.0005, 0.005])
def test_the_budget_holds_in_the_long_run(clock, step_seconds, cost):
    _, schedule = sampled(clock, 20_000, step_seconds, cost)
    assert schedule.share < 0.0125 * max(1.0, 0.002 / step_seconds)  # quick ones count as 2 ms


@pytest.mark.parametrize("cost", [0.001, 0.004, 0.012])
@pytest.mark.parametrize("step_seconds", [0.002, 0.005])
def test_short_runs_are_not_sampled_for_more_than_their_start_allows(clock, step_seconds, cost):
    found, schedule = sampled(clock, 200, step_seconds, cost)
    free = 3 if cost <= max(0.003, step_seconds) else 1
    assert found[:2] == [0, 1] if free == 3 and cost <= 0.003 else found[0] == 0
    assert schedule.spent <= 0.01 * clock.now + 0.01 + free * cost


def test_tiny_steps_are_not_sampled_for_a_fifth_of_the_time(clock):
    found, schedule = sampled(clock, 64, 0.0005, 0.0006)
    assert found[:3] == [0, 1, 2] and schedule.share < 0.15


def test_a_first_step_that_compiles_says_nothing_of_the_others(clock):
    """A rehearsal of 10 ms before a plan of 1 ms is not repeated at once."""
    schedule, found = Schedule(), []
    for step in range(100):
        if schedule.due(step):
            found.append(step)
            schedule.took(0.01)
            clock.now += 0.01
        clock.now += 0.001 if step else 0.2
    assert found[0] == 0 and 1 not in found and 2 not in found


def test_a_step_that_has_to_wait_is_taken_when_it_is_affordable(clock):
    found, schedule = sampled(clock, 4000, 0.001, 0.01)
    assert found[0] == 0 and 2 < len(found) < 12 and found[1] > 8
    assert schedule.share < 0.03


def test_decisions_are_a_part_of_the_budget(clock):
    few, many = Schedule(), Schedule()
    for schedule, spent in ((few, 0.0), (many, 1.0)):
        for step in range(3):
            schedule.due(step)
        schedule.decided(spent)
    clock.now = 10.0
    assert few.affords(0.01) and not many.affords()
    assert few.due(4) and not many.due(4)


def test_waiting_buys_no_samples(clock):
    schedule = Schedule()
    schedule.took(0.2)
    clock.now = clock.idle = 100.0
    assert schedule.elapsed == 0.0 and not schedule.affords()
    clock.now += 100.0
    assert schedule.affords()


def test_a_run_begins_when_it_is_told_to(clock):
    schedule = Schedule()
    clock.now = 5.0
    schedule.begin()
    clock.now = 6.0
    assert schedule.elapsed == 1.0


def test_budget_of_one_never_waits(clock):
    found, _ = sampled(clock, 65, 1e-6, 1.0, budget=1.0)
    assert found == [0, 1, 2, 4, 8, 16, 32, 64]


@pytest.mark.parametrize("options", [{"every": 0}, {"budget": 0.0}, {"budget": 1.5}])
def test_options_are_checked(options):
    with pytest.raises(ArgumentError):
        Schedule(**options)


def test_quick_steps_count_as_two_milliseconds_and_have_an_allowance(clock):
    """1000 steps of 10 microseconds: 1 % of 2 s, and 20 ms, are what watching may take."""
    found, schedule = sampled(clock, 1000, 1e-5, 0.004)
    allowed = schedule.budget * module.QUICK * 1000 + module.ALLOWED
    assert 0.75 * allowed < schedule.spent <= allowed
    assert found[0] == 0 and len(found) >= 8
    assert schedule.spent > 0.3 * clock.now  # the run's own time alone would not have bought that


def test_slow_steps_have_no_such_allowance(clock):
    schedule = Schedule()
    schedule.due(10)
    clock.now = 10 * module.QUICK * 1.01
    assert schedule.affords(0.002) and not schedule.affords(module.ALLOWED / 2)
    clock.now = 10 * module.QUICK * 0.99
    assert schedule.affords(module.ALLOWED / 2) and not schedule.affords(1.1 * module.ALLOWED)


def test_room_is_left_for_the_last_decision(clock):
    plain, deciding = Schedule(), Schedule()
    for schedule in (plain, deciding):
        schedule.samples = schedule.free
    deciding.decided(0.004)
    clock.now = 2.0  # 20 ms, and 6 more of the start
    assert plain.affords(0.025) and deciding.affords(0.017)
    assert plain.affords(0.021) and not deciding.affords(0.021)  # 4 spent, and 4 to come
    deciding.decided(0.001)
    assert deciding.spent == pytest.approx(0.005) and deciding.affords(0.019)
