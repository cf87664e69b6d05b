"""The tools by which a model works in the background: what it is offered, begins, waits for and ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Any

import pytest
from msgspec import UNSET, Meta

from sightline.agents.standard import StandardAgent, background_tools, tool
from sightline.agents.standard.model import ModelEvent, ModelRequest
from sightline.agents.standard.tools import Tool
from sightline.process.functions import Functions, RunningProcess, function_registration
from sightline.process.model import CancelledOutput, SuccessOutput
from sightline.startup_errors import ToolRefused
from sightline.stores.memory import MemoryStore
from sightline.tasks.model import NewTask
from sightline.testing.clock import ManualClock, settled
from sightline.testing.models import Line, ScriptedModel, calling, saying
from sightline.turn.conversation import ConversationMessage, SystemMessage, TextPart, ToolMessage, UserMessage
from tests.core.kernel.test_monitors import until, watching
from tests.core.worlds import World, running, said

pytestmark = pytest.mark.anyio

PROCESSES = ["processes_list", "process_wait", "process_cancel"]


class Led(ScriptedModel):
    """A model whose next answer depends on what it was told last: the outputs of its calls, or a text."""

    def __init__(self, lead: Callable[[Any], list[Line]]) -> None:
        super().__init__()
        self.heard: list[Any] = []
        self._lead = lead

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        newest = request.messages[-1]
        told = [one.output for one in newest.results] if isinstance(newest, ToolMessage) else text_of(newest)
        self.heard.append(told)
        self.scripts.append(self._lead(told))
        async for event in super().stream(request):
            yield event


def text_of(message: ConversationMessage) -> str:
    match message:
        case UserMessage(parts=(TextPart(text=text), *_)) | SystemMessage(text=text):
            return text
        case _:
            raise AssertionError(message)


class Work:
    """A function that waits until it may end, as a process."""

    def __init__(self) -> None:
        self.functions = Functions()
        self.go_on = asyncio.Event()
        self.begun = list[int]()

        @self.functions.process("work")
        async def work(process: RunningProcess, n: Annotated[int, Meta(ge=1)], note: str = "") -> int:
            """Does its work."""
            self.begun.append(n)
            await self.go_on.wait()
            return n

        @self.functions.process("not one word")
        async def strange(process: RunningProcess) -> None: ...

        @self.functions.process("untyped")
        async def untyped(process, n) -> None: ...  # type: ignore[no-untyped-def]

    def tools(self, **options: Any) -> tuple[Tool, ...]:
        return background_tools(functions=["work"], registered=self.functions, **options)


def agent(model: ScriptedModel, *tools: Tool) -> StandardAgent:
    return StandardAgent(model="test:one", client=model, tools=tools)


def names(tools: tuple[Tool, ...]) -> list[str]:
    return [one.name for one in tools]


def told_of_calls(model: ScriptedModel) -> list[Any]:
    """What the calls came to, as the model's last request has it."""
    return [
        result.output
        for message in model.requests[-1].messages
        if isinstance(message, ToolMessage)
        for result in message.results
    ]


# What is offered


def test_an_author_says_what_a_model_may_begin() -> None:
    work = Work()
    assert names(background_tools()) == ["tasks_list", "tasks_stop"]
    assert names(background_tools(monitors=True)) == ["tasks_list", "tasks_stop", "monitor"]
    assert names(background_tools(subagents=True)) == ["tasks_list", "tasks_stop", "start_subagent", *PROCESSES]
    assert names(work.tools()) == ["tasks_list", "tasks_stop", *PROCESSES, "start_work"]
    approved = [one.name for one in work.tools(monitors=True, approval={"monitor"}) if one.approval]
    assert approved == ["monitor"]


def test_the_arguments_of_a_function_are_those_of_its_tool() -> None:
    start = Work().tools()[-1].spec
    assert start.description == "Does its work.\n\nStarts in the background, and answers with the id of its process."
    assert start.input_schema == {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 1}, "note": {"type": "string", "default": ""}},
        "required": ["n"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"functions": ["nothing"]}, "nothing"),
        ({"functions": ["not one word"]}, "start_not one word"),
        ({"functions": ["untyped"]}, "start_untyped"),
        ({"approval": ["monitor"]}, "monitor"),
    ],
)
def test_what_cannot_be_offered_is_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ToolRefused) as refused:
        background_tools(registered=Work().functions, **options)
    assert refused.value.tool == named


# Tasks


async def test_a_model_begins_a_monitor_is_woken_by_its_lines_and_stops_it() -> None:
    def lead(told: Any) -> list[Line]:
        if told == "go":
            return calling(("monitor", {"name": "log", "command": "echo one; sleep 1000"}))
        if str(told).endswith("reported: one"):
            return calling(("tasks_list", {}))
        if told[0].get("tasks"):
            return calling(("tasks_stop", {"task_id": told[0]["tasks"][0]["task_id"]}))
        return saying("Done." if told[0]["state"] == "cancelled" else "Watching.")

    model = Led(lead)
    async with watching(agent(model, *background_tools(monitors=True))) as world:
        await world.send("go")
        await until(world, lambda: len(model.requests) == 5)
        await settled()
        texts = [content for role, content in await said(world) if role == "assistant"]
        assert texts == ["Watching.", "Done."]
        begun, listed, stopped = [told[0] for told in model.heard if isinstance(told, list)]
        assert (begun["task_id"], begun["state"]) == ("monitor:model:log", "running")
        assert ([task["task_id"] for task in listed["tasks"]], listed["left_out"]) == ([begun["task_id"]], 0)
        assert (stopped["state"], stopped["cancel_reason"]) == ("cancelled", "requested by the model")


async def test_many_tasks_are_listed_by_the_newest() -> None:
    model = ScriptedModel(calling(("tasks_list", {}), ("tasks_list", {"ended": True})), saying("So many."))
    async with running(agent(model, *background_tools())) as world:
        for number in range(53):
            await world.kernel.tasks.register("s", NewTask(task_id=f"t{number}", producer="test"))
        await world.kernel.tasks.unregister("s", "t0")
        await world.kernel.tasks.register("s", NewTask(task_id="over", producer="test"), cancel=settled)
        await world.kernel.tasks.cancel("s", "over")
        await world.send("go")
        live, all_of_them = told_of_calls(model)
        assert (len(live["tasks"]), live["left_out"], live["tasks"][-1]["task_id"]) == (50, 2, "t52")
        assert (all_of_them["left_out"], all_of_them["tasks"][-1]["state"]) == (3, "cancelled")


# Processes


async def test_a_model_starts_a_function_and_waits_for_what_it_comes_to() -> None:
    work = Work()

    def lead(told: Any) -> list[Line]:
        if told == "go":
            return calling(("start_work", {"n": 7}))
        if "process_id" in told[0]:
            return calling(("process_wait", {"process_id": told[0]["process_id"]}), ("processes_list", {}))
        return saying("It is there.")

    model = Led(lead)
    async with running(agent(model, *work.tools()), functions=work.functions) as world:
        await world.send("go")
        assert (await world.view()).status == "running"
        work.go_on.set()
        await settled()
        assert (await said(world))[-1] == ("assistant", "It is there.")
        started, came_to, listed = told_of_calls(model)
        assert came_to == {"type": "success", "value": 7}
        [shown] = listed["processes"]
        assert (shown["process_id"], shown["label"], shown["status"]) == (started["process_id"], "work", "running")
        assert (listed["left_out"], work.begun) == (0, [7])


async def test_a_model_that_waits_for_a_while_learns_that_it_goes_on_and_may_end_it() -> None:
    work = Work()

    def lead(told: Any) -> list[Line]:
        if told == "go":
            return calling(("start_work", {"n": 7}))
        if "process_id" in told[0]:
            given = {"process_id": told[0]["process_id"]}
            return calling(("process_wait", {**given, "seconds": 5}), ("process_cancel", {"process_id": "other"}))
        if told[0] == {"type": "running"}:
            return calling(("process_cancel", {"process_id": model.heard[1][0]["process_id"]}))
        return saying("Ended.")

    model = Led(lead)
    async with running(agent(model, *work.tools()), functions=work.functions) as world:
        await world.send("go")
        await world.clock.run_for(6.0)
        assert (await said(world))[-1] == ("assistant", "Ended.")
        _, [running_on, refused], asked = model.heard[1:]
        assert (running_on, asked) == ({"type": "running"}, [{"asked": True}])
        assert refused == "ProcessNotFound: there is no process 'other'"
        process_id = model.heard[1][0]["process_id"]
        came_to = await world.kernel.processes.end_of(process_id, 1.0)
        assert came_to == CancelledOutput(message="requested by the model")


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (("start_work", {"n": 0}), "the arguments do not fit: Expected `int` >= 1 - at `$.n`"),
        (("start_work", {"n": 1, "m": 1}), "the arguments do not fit: Object contains unknown field `m`"),
        (("start_work", "{"), "the arguments do not fit: Expected `object`, got `str`"),
        (("start_subagent", {"name": "a b", "work": "x"}), "the arguments do not fit: Expected `str` matching regex"),
        (("monitor", {"name": "m", "command": ""}), "the arguments do not fit: Expected `str` of length >= 1"),
        (("monitor", {"name": "m", "command": " "}), "InvalidInput: "),
        (("tasks_stop", {"task_id": "none"}), "TaskNotFound: "),
        (("process_wait", {"process_id": "elsewhere"}), "HandleNotVisible: session 's' does not see process"),
        (("process_cancel", {"process_id": "elsewhere"}), "HandleNotVisible: session 's' does not see process"),
    ],
)
async def test_what_goes_wrong_is_told_to_the_model(call: tuple[str, Any], told: str) -> None:
    work = Work()
    work.go_on.set()
    model = ScriptedModel(calling(call), saying("Sorry."))
    tools = work.tools(monitors=True, subagents=True)
    async with running(agent(model, *tools), functions=work.functions) as world:
        await world.kernel.processes.start_process(function_registration("elsewhere", "work", {"n": 1}))
        await world.send("go")
        assert (await said(world))[-1] == ("assistant", "Sorry.")
        [answer] = told_of_calls(model)
        assert str(answer).startswith(told)
        assert work.begun == [1]


async def test_a_sub_agent_answers_whoever_waits_for_its_process() -> None:
    def lead(told: Any) -> list[Line]:
        match told:
            case "go":
                return calling(("start_subagent", {"name": "reader", "work": "read"}))
            case "read":
                return saying("Nothing is missing.", used=3)
            case [{"process_id": process_id}]:
                return calling(("process_wait", {"process_id": process_id}))
            case _:
                return saying(told[0]["value"]["text"])

    model = Led(lead)
    tools = background_tools(subagents=True)
    async with running(agent(model, *tools), functions=Functions()) as world:
        await world.send("go")
        await settled()
        assert (await said(world))[-1] == ("assistant", "Nothing is missing.")
        by_source = (await world.view()).usage.by_source
        assert by_source is not UNSET
        assert f"child:{model.heard[-1][0]['value']['session_id']}" in by_source


# A turn that is cut off


async def forever() -> None:
    await asyncio.Event().wait()


async def started_by(world: World) -> list[str]:
    page = await world.store.list_processes(limit=9, after=None)
    return sorted(process.process_id for process in page.processes)


async def test_a_call_that_is_made_again_finds_what_it_began() -> None:
    work, store = Work(), MemoryStore(ManualClock())
    work.go_on.set()
    model = ScriptedModel(calling(("start_work", {"n": 1}), ("start_work", {"n": 1})), saying("Started."))
    async with running(agent(model, *work.tools()), functions=work.functions, store=store) as world:
        world.faults.hold_answer("register_process")
        await world.send("go")
        begun = await started_by(world)
    async with running(agent(model, *work.tools()), functions=work.functions, store=store, session_ids=()) as world:
        await world.clock.run_for(60.0)
        assert (await said(world))[-1] == ("assistant", "Started.")
        now = await started_by(world)
        assert [told["process_id"] for told in told_of_calls(model)] == now
        assert set(begun) <= set(now)
        assert (len(begun), len(now)) == (2, 2), "the two are told apart although they were asked for in the same words"


async def test_what_is_begun_after_a_crash_is_something_else() -> None:
    work, store, hangs = Work(), MemoryStore(ManualClock()), [True]
    work.go_on.set()

    @tool
    async def hang() -> None:
        if hangs.pop():
            await forever()

    model = ScriptedModel(
        calling(("start_work", {"n": 1}), ("hang", {})), calling(("start_work", {"n": 2})), saying("Started.")
    )
    for number in range(2):
        tools = (*work.tools(), hang)
        sessions = ("s",) if number == 0 else ()
        async with running(agent(model, *tools), functions=work.functions, store=store, session_ids=sessions) as world:
            if number == 0:
                await world.send("go")
                hangs.append(False)
            else:
                await world.clock.run_for(60.0)
                assert (await said(world))[-1] == ("assistant", "Started.")
                ends = [await world.kernel.processes.end_of(each, 1.0) for each in await started_by(world)]
                assert ends == [SuccessOutput(value=1), SuccessOutput(value=2)]
