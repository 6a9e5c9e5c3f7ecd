"""The graph of jobs and the schedule of tasks against small models, in random runs without any engine."""

from __future__ import annotations

from hypothesis import given, settings, strategies as st

from nemo_run.core.execution.base import JobState
from nemo_run.run.graph import Graph
from nemo_run.run.phases import BUSY, DrivenJob, DrivenTask, Phase, Schedule
from nemo_run.run.records import JobDefinition, JobProgress, TaskDefinition, TaskProgress

ENDS = [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED]
QUEUES = [None, "queue-a", "queue-b"]


def job(name: str, dependencies: list[str] | None = None, waits_for: str = "success") -> JobDefinition:
    return JobDefinition(name, name, name, (), dependencies=tuple(dependencies or ()), waits_for=waits_for)


@st.composite
def graphs(draw: st.DrawFn) -> list[JobDefinition]:
    jobs: list[JobDefinition] = []
    for number in range(draw(st.integers(1, 8))):
        before = draw(st.lists(st.sampled_from([one.id for one in jobs]), max_size=4)) if jobs else []
        jobs.append(job(f"job-{number}", before, draw(st.sampled_from(["success", "failure", "end", "start"]))))
    return jobs


class Model:
    """The rules, from the history of all states alone; every question is answered anew."""

    def __init__(self, jobs: list[JobDefinition]) -> None:
        self.jobs = {one.id: one for one in jobs}
        self.history: dict[str, list[JobState]] = {one.id: [] for one in jobs}

    def verdict(self, dependant: str, dependency: str) -> bool | None:
        """What a dependency has decided; the first state that decides counts."""
        wanted = self.jobs[dependant].waits_for
        for state in self.history[dependency]:
            if wanted == "start" and state is JobState.RUNNING:
                return True
            if state in ENDS:
                return {"success": state is JobState.SUCCEEDED, "failure": state is not JobState.SUCCEEDED}.get(
                    wanted, True
                )
        return None

    def verdicts(self, name: str) -> list[bool | None]:
        return [self.verdict(name, dependency) for dependency in self.jobs[name].dependencies]

    def ended(self, name: str) -> bool:
        return any(state in ENDS for state in self.history[name])

    def open(self, name: str) -> set[str]:
        return {one for one in self.jobs[name].dependencies if self.verdict(name, one) is None}


@given(graphs(), st.data())
@settings(max_examples=300, deadline=None)
def test_a_graph_starts_and_excludes_what_the_rules_say(jobs: list[JobDefinition], data: st.DataObject) -> None:
    graph, model = Graph(jobs), Model(jobs)
    running, excluded = set(graph.roots()), set[str]()
    assert running == {one.id for one in jobs if not one.dependencies}
    started = list(running)
    while running:
        name = data.draw(st.sampled_from(sorted(running)))
        events = [(name, data.draw(st.sampled_from([*ENDS, JobState.RUNNING, JobState.PENDING])))]
        while events:
            name, state = events.pop()
            model.history[name].append(state)
            running -= {name} if state in ENDS else set()
            for decision in graph.report(name, state):
                if decision.may_run:
                    running.add(decision.job)
                    started.append(decision.job)
                elif decision.job not in excluded:
                    excluded.add(decision.job)
                    events.append((decision.job, JobState.CANCELLED))
        for one in jobs:
            assert graph.waits_for(one.id) == sorted(model.open(one.id))
            assert graph.has_ended(one.id) == model.ended(one.id)
            assert (one.id in excluded) == (False in model.verdicts(one.id))
            assert (one.id in started) == all(model.verdicts(one.id))
    assert len(started) == len(set(started)), "a job was started twice"
    assert graph.is_over
    assert set(started) | excluded == {one.id for one in jobs}


@given(graphs(), st.data())
@settings(max_examples=300, deadline=None)
def test_an_engine_holds_a_job_whose_open_dependencies_stand_in_its_queue(
    jobs: list[JobDefinition], data: st.DataObject
) -> None:
    graph, model = Graph(jobs), Model(jobs)
    queues = {one.id: data.draw(st.sampled_from(QUEUES)) for one in jobs}
    held = set[str]()
    for name in data.draw(st.lists(st.sampled_from([one.id for one in jobs]), max_size=6)):
        state = data.draw(st.sampled_from([JobState.RUNNING, *ENDS]))
        if not model.ended(name):
            model.history[name].append(state)
            graph.report(name, state)
        for one in jobs:
            expected = (
                one.id not in held
                and not model.ended(one.id)
                and bool(model.open(one.id))
                and {queues[one.id], *(queues[other] for other in model.open(one.id))} in [{"queue-a"}, {"queue-b"}]
            )
            assert graph.can_be_held(one.id, queues[one.id], queues.__getitem__) == expected
            if expected and data.draw(st.booleans()):
                graph.hold(one.id)
                held.add(one.id)


def test_a_job_that_is_held_is_not_started_again_but_can_be_excluded() -> None:
    graph = Graph([job("a"), job("b"), job("c", ["a", "b"])])
    graph.hold("c")
    assert graph.report("a", JobState.SUCCEEDED) == []
    assert [(one.job, one.may_run) for one in graph.report("b", JobState.FAILED)] == [("c", False)]
    graph = Graph([job("a"), job("b", ["a"])])
    graph.hold("b")
    assert graph.report("a", JobState.SUCCEEDED) == []


def test_the_dependants_of_several_jobs_are_named_once() -> None:
    graph = Graph([job("a"), job("b"), job("c", ["a", "b"]), job("d", ["b"])])
    assert graph.dependants(["a", "b"]) == ["c", "d"]


def driven(name: str, size: int, *, group: bool) -> DrivenJob:
    tasks = tuple(TaskDefinition(f"{name}/{i}", name, "LocalExecutor") for i in range(size))
    definition = JobDefinition(name, name, name, tasks, group=group)
    return DrivenJob(definition, JobProgress([TaskProgress() for _ in tasks]))


@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 3)), min_size=1, max_size=6),
    st.none() | st.integers(1, 4),
    st.data(),
)
@settings(max_examples=300, deadline=None)
def test_a_schedule_keeps_to_the_order_and_the_bound(
    shapes: list[tuple[bool, int]], limit: int | None, data: st.DataObject
) -> None:
    jobs = [driven(f"job-{n}", size if group else 1, group=group) for n, (group, size) in enumerate(shapes)]
    schedule = Schedule(jobs, limit)
    tasks = [task for one in jobs for task in one.tasks]
    for ready in data.draw(st.permutations(tasks)):
        schedule.move(ready, Phase.READY)
    while left := schedule.having(Phase.READY, *BUSY):
        while task := schedule.pop():
            assert task is min(schedule.having(Phase.READY), key=tasks.index), "the first one starts first"
            if data.draw(st.integers(0, 9)) == 0:
                schedule.move(task, Phase.DONE)  # cancelled in the meantime
            else:
                schedule.move(task, Phase.RUNNING)
        busy = schedule.having(*BUSY)
        assert busy or not left or not schedule.having(Phase.READY), "nothing runs, and nothing starts"
        within = limit is None or len(busy) <= limit
        assert within or len({one.job for one in busy}) == 1, "only a group that runs alone may exceed the bound"
        check_groups_are_whole(busy)
        for ending in busy[: data.draw(st.integers(1, max(len(busy), 1)))]:
            schedule.move(ending, data.draw(st.sampled_from([Phase.DONE, Phase.COLLECTING])))
    assert len(schedule.having(Phase.DONE)) == len(tasks)


def check_groups_are_whole(busy: list[DrivenTask]) -> None:
    """No member of a group waits for room while another runs."""
    for task in busy:
        assert not [member for member in task.job.tasks if member.phase is Phase.READY]


def test_a_retry_is_ready_when_its_time_has_come() -> None:
    one = driven("flaky", 1, group=False)
    schedule = Schedule([one])
    schedule.retry(one.tasks[0], 100.0)
    schedule.make_due_ready(99.0)
    assert (schedule.pop(), schedule.pause(99.0, longest=5.0)) == (None, 1.0)
    schedule.make_due_ready(100.0)
    assert schedule.pop() is one.tasks[0]
    assert schedule.pause(100.0, longest=5.0) == 5.0
    schedule.move(one.tasks[0], Phase.COLLECTING)
    assert schedule.pause(100.0, longest=5.0) < 1.0
