"""The debugger over the wire: debug_request on control, debug_event on iopub."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest

from .debugging import INTRODUCTION, Debugging
from .driver import KERNEL, READY, Kernel, start_kernel
from .exchange import ANSI

MPKERNEL = pytest.mark.mpkernel_only("ipykernel hangs, stays silent, or says something else")

CELL = """\
def add(n):
    result = n + 1
    return result

total = add(3)
print(total)
"""


@pytest.fixture
def debug(kernel: Kernel) -> Debugging:
    """A debugger that is attached to the parent subshell."""
    debugging = Debugging(kernel)
    debugging.attach()
    return debugging


# --- what is to be seen at a breakpoint ---------------------------------------------------------------------------


@MPKERNEL
def test_a_cell_stops_at_a_breakpoint_and_goes_on(kernel: Kernel, debug: Debugging) -> None:
    path = debug.set_breakpoints(CELL, 2)
    cell = debug.stop(CELL)
    frames = debug.frames
    assert [(frame["name"], frame["line"]) for frame in frames] == [("add", 2), ("<module>", 5)]
    assert {frame["source"]["path"] for frame in frames} == {path}
    assert debug.scope("Locals") == {"n": "3"}
    assert debug.ask("debugInfo")["stoppedThreads"] == [1]
    assert not cell.is_done
    debug.ask("continue", threadId=1)
    debug.wait_for("continued")
    assert cell.wait().stdout == "4\n"
    assert debug.ask("debugInfo")["stoppedThreads"] == []


def test_steps_go_over_into_and_out_of_functions(kernel: Kernel, debug: Debugging) -> None:
    debug.set_breakpoints(CELL, 5)
    cell = debug.stop(CELL)
    places = []
    for step in ("stepIn", "next", "stepOut", "next"):
        debug.ask(step, threadId=1)
        debug.wait_for("stopped")
        places.append((debug.frames[0]["name"], debug.frames[0]["line"]))
    assert places[:2] == [("add", 2), ("add", 3)]
    assert places[3] == ("<module>", 6)
    debug.ask("next", threadId=1)  # the last line: the step ends with the cell
    assert cell.wait().status == "ok"


def test_a_step_out_of_the_last_line_ends_the_cell(kernel: Kernel, debug: Debugging) -> None:
    """It must not stop in the code of the kernel that comes after."""
    debug.set_breakpoints(CELL, 6)
    cell = debug.stop(CELL)
    debug.ask("stepOut", threadId=1)
    assert cell.wait().status == "ok"
    assert kernel.value("total") == 4
    assert len(debug.events("stopped")) == 1


@MPKERNEL
def test_a_step_ends_with_the_cell_and_not_in_what_comes_after(kernel: Kernel, debug: Debugging) -> None:
    kernel.run("def hook(*_):\n    done = 1\nget_ipython().events.register('post_run_cell', hook)")
    debug.set_breakpoints("a = 1", 1)
    cell = debug.stop("a = 1")
    debug.ask("next", threadId=1)
    assert cell.wait().status == "ok"
    assert kernel.run("b = 2").status == "ok"
    assert len(debug.events("stopped")) == 1


@MPKERNEL
def test_variables_can_be_evaluated_set_and_copied(kernel: Kernel, debug: Debugging) -> None:
    debug.set_breakpoints(CELL, 3)
    cell = debug.stop(CELL)
    frame = debug.frames[0]["id"]
    assert debug.ask("evaluate", expression="n * 10", frameId=frame)["result"] == "30"
    rich = debug.ask("richInspectVariables", variableName="result", frameId=frame)
    assert rich == {"data": {"text/plain": "4"}, "metadata": {}}
    debug.ask("copyToGlobals", srcVariableName="n", dstVariableName="copied", srcFrameId=frame)
    assert "identifier" in debug.refused("copyToGlobals", srcVariableName="n", dstVariableName="1 x", srcFrameId=frame)
    debug.ask("setExpression", expression="result", value="40", frameId=frame)
    debug.ask("continue", threadId=1)
    assert cell.wait().stdout == "40\n"
    assert kernel.value("copied") == 3


def test_a_conditional_breakpoint_stops_when_its_condition_holds(kernel: Kernel, debug: Debugging) -> None:
    code = "for i in range(5):\n    square = i * i\n"
    debug.set_breakpoints(code, 2, condition="i == 3")
    cell = debug.stop(code)
    assert debug.scope("Globals")["i"] == "3"
    debug.ask("continue", threadId=1)
    cell.wait()
    assert len(debug.events("stopped")) == 1


def test_a_breakpoint_finds_a_function_of_an_earlier_cell(kernel: Kernel) -> None:
    definition = "def f(n):\n    return n + 1\n"
    kernel.run(definition)
    debug = Debugging(kernel)
    debug.attach()
    debug.set_breakpoints(definition, 2)
    cell = debug.stop("f(1)")
    assert debug.frames[0]["name"] == "f"
    debug.ask("continue", threadId=1)
    assert cell.wait().text == "2"


def test_leading_empty_lines_count(kernel: Kernel, debug: Debugging) -> None:
    code = "\n\na = 1\nb = 2\n"
    debug.set_breakpoints(code, 4)
    cell = debug.stop(code)
    assert debug.frames[0]["line"] == 4
    debug.ask("continue", threadId=1)
    assert cell.wait().status == "ok"


def test_an_exception_stops_where_it_is_raised(kernel: Kernel, debug: Debugging) -> None:
    debug.ask("setExceptionBreakpoints", filters=["raised"])
    code = "def f():\n    raise ValueError('x')\n\ntry:\n    f()\nexcept ValueError:\n    pass\n"
    cell = kernel.submit(code)
    assert debug.wait_for("stopped")["reason"] == "exception"
    assert debug.frames[0]["name"] == "f"
    assert "ValueError" in debug.ask("exceptionInfo", threadId=1)["exceptionId"]
    debug.ask("setExceptionBreakpoints", filters=[])
    debug.ask("continue", threadId=1)
    assert cell.wait().status == "ok"


@MPKERNEL
def test_attaching_while_a_cell_runs_stops_that_cell(kernel: Kernel) -> None:
    code = f"{READY}n = 0\nwhile n >= 0:\n    n += 1\n"
    cell = kernel.start(code)
    debug = Debugging(kernel)
    debug.attach()
    debug.set_breakpoints(code, 4)
    debug.wait_for("stopped")
    frame = debug.frames[0]["id"]
    debug.ask("setExpression", expression="n", value="-5", frameId=frame)
    debug.set_breakpoints(code)
    debug.ask("continue", threadId=1)
    assert cell.wait().status == "ok"


def test_pause_stops_a_running_cell(kernel: Kernel, debug: Debugging) -> None:
    cell = kernel.start("n = 0\nwhile n >= 0:\n    n += 1\n    if n == 1: print('ready')\n")
    debug.ask("pause", threadId=1)
    debug.wait_for("stopped")
    debug.ask("next", threadId=1)  # a pause may come in the midst of a line
    debug.wait_for("stopped")
    debug.ask("evaluate", expression="n = -10", frameId=debug.frames[0]["id"], context="repl")
    debug.ask("continue", threadId=1)
    assert cell.wait().status == "ok"


def test_top_level_await_can_be_debugged(kernel: Kernel, debug: Debugging) -> None:
    code = "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    return 5\nprint(await f())\n"
    debug.set_breakpoints(code, 4)
    cell = debug.stop(code)
    assert [frame["name"] for frame in debug.frames][:1] == ["f"]
    debug.ask("continue", threadId=1)
    assert cell.wait().stdout == "5\n"


@MPKERNEL
def test_a_thread_of_the_users_stops_and_the_kernel_goes_on_answering(kernel: Kernel, debug: Debugging) -> None:
    code = "import threading\ndef work():\n    x = 1\n"
    code += "thread = threading.Thread(target=work)\nthread.start()\nthread.join()\n"
    debug.set_breakpoints(code, 3)
    cell = debug.stop(code)
    threads = debug.ask("threads")["threads"]
    assert [thread["name"].partition("-")[0] for thread in threads] == ["MainThread", "Thread"]
    assert kernel.request("complete_request", {"code": "thre", "cursor_pos": 4}).status == "ok"
    debug.ask("continue", threadId=1)
    assert cell.wait().status == "ok"


# --- what is answered while the debugger is off -------------------------------------------------------------------


def test_debug_info_tells_how_cells_are_called(kernel: Kernel) -> None:
    debug = Debugging(kernel)
    info = debug.ask("debugInfo")
    assert info == {
        "isStarted": False,
        "hashMethod": "Murmur2",
        "hashSeed": 0xC70F6907,
        "tmpFilePrefix": info["tmpFilePrefix"],
        "tmpFileSuffix": ".py",
        "breakpoints": [],
        "stoppedThreads": [],
        "richRendering": True,
        "exceptionPaths": ["Python Exceptions"],
        "copyToGlobals": True,
    }
    debug.attach()
    path = debug.set_breakpoints("1 / 0", 1)
    assert path == f"{info['tmpFilePrefix']}1455669704.py"
    assert debug.ask("debugInfo")["breakpoints"] == [{"source": path, "breakpoints": [{"line": 1}]}]
    assert debug.ask("debugInfo")["isStarted"] is True
    assert debug.ask("source", source={"path": path}) == {"content": "1 / 0"}
    assert "unavailable" in debug.refused("source", source={"path": "/no such file"})
    assert kernel.value("(lambda: 0).__code__.co_filename").startswith(info["tmpFilePrefix"])


@MPKERNEL
def test_only_this_user_can_read_the_cells_and_they_are_removed(kernel: Kernel, debug: Debugging) -> None:
    folder = Path(debug.set_breakpoints("1", 1)).parent
    assert folder.name.startswith("ipykernel_")  # numba's cache looks for that
    assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE(folder.parent.stat().st_mode) & 0o077 == 0
    assert kernel.shut_down() == []
    assert not folder.exists()


def test_the_environment_can_name_the_cell(tmp_path: Path) -> None:
    with start_kernel(env={"IPYKERNEL_CELL_NAME": str(tmp_path / "cell.py")}) as kernel:
        assert kernel.value("(lambda: 0).__code__.co_filename") == str(tmp_path / "cell.py")


@MPKERNEL
def test_variables_are_shown_while_the_debugger_is_off(kernel: Kernel) -> None:
    kernel.run("xs = [1, {'a': 2}]\n_index = 5\ndef f(): pass")
    debug = Debugging(kernel)
    variables = {v["name"]: v for v in debug.ask("inspectVariables")["variables"]}
    assert variables["xs"]["value"] == "[1, {'a': 2}]"
    assert variables["xs"]["type"] == "list"
    assert set(variables) == {"function variables", "xs", "_index"}
    inner = debug.ask("variables", variablesReference=variables["xs"]["variablesReference"])["variables"]
    assert {"0", "1", "len()"} <= {variable["name"] for variable in inner}
    rich = debug.ask("richInspectVariables", variableName="xs")
    assert rich == {"data": {"text/plain": "[1, {'a': 2}]"}, "metadata": {}}
    assert debug.ask("richInspectVariables", variableName="missing") == {"data": {}, "metadata": {}}


@MPKERNEL
def test_a_slow_repr_holds_up_only_its_own_request(kernel: Kernel) -> None:
    gate = kernel.gate("gate")
    kernel.run(
        f"class Slow:\n    def __repr__(self):\n        {gate.pass_through}\n        return 'slow'\nslow = Slow()"
    )
    debug = Debugging(kernel)
    slow = debug.send("richInspectVariables", {"variableName": "slow"})
    assert debug.ask("debugInfo")["isStarted"] is False
    gate.release()
    assert slow.wait().content["body"]["data"] == {"text/plain": "slow"}


def test_modules_are_listed(kernel: Kernel) -> None:
    content = Debugging(kernel).send("modules").wait().content["body"]
    assert {"json", "threading"} <= {module["name"] for module in content["modules"]}
    assert content["totalModules"] >= len(content["modules"])


BAD_ARGUMENTS: list[tuple[str, dict[str, object]]] = [
    ("setBreakpoints", {"source": {"path": "/x.py"}, "breakpoints": [{"line": "three"}]}),
    ("setBreakpoints", {"source": {"path": "/x.py"}, "breakpoints": 5}),
    ("setBreakpoints", {"source": {"path": "/x.py"}}),
    ("setExceptionBreakpoints", {"filters": 7}),
    ("scopes", {"frameId": "x"}),
    ("scopes", {}),
    ("pause", {}),
    ("initialize", {"linesStartAt1": "x", "pathFormat": 5}),
]

# --- what can't be done -------------------------------------------------------------------------------------------


@MPKERNEL
@pytest.mark.parametrize(
    "command",
    ["attach", "setBreakpoints", "stackTrace", "continue", "threads", "evaluate", "dumpCell", "configurationDone", "x"],
)
def test_before_initialize_a_request_is_refused(shared_kernel: Kernel, command: str) -> None:
    assert "initialize" in Debugging(shared_kernel).refused(command)


@MPKERNEL
def test_a_request_that_is_out_of_order_or_wrong_is_refused(kernel: Kernel) -> None:
    debug = Debugging(kernel)
    debug.ask("initialize")
    for command in ("setBreakpoints", "stackTrace", "threads"):
        assert "attach" in debug.refused(command)
    assert "attach" in debug.refused("launch", stopOnEntry=True)
    debug.ask("attach", stopOnEntry=True)
    debug.ask("attach")
    for command in ("stackTrace", "continue", "next", "evaluate", "setExpression"):
        assert "nothing is stopped" in debug.refused(command, threadId=1, expression="1", value="1", frameId=1)
    assert "no debugger command" in debug.refused("nonsense")
    assert "'code'" in debug.refused("dumpCell", code=5)
    assert "'source'" in debug.refused("setBreakpoints", breakpoints=[])
    for command, arguments in BAD_ARGUMENTS:
        debug.request(command, **arguments)  # pydevd may take it, but there's an answer
    debug.refused("variables", variablesReference=12345)
    debug.refused("richInspectVariables")
    debug.refused("copyToGlobals", srcVariableName="a", dstVariableName="b", srcFrameId=1)
    debug.refused("modules", startModule="x")
    assert kernel.run("1 + 1").text == "2"
    debug.ask("disconnect")
    debug.ask("disconnect")
    debug.refused("threads")


def test_requests_need_not_wait_for_the_reply_to_attach(kernel: Kernel) -> None:
    debug = Debugging(kernel)
    sent = [debug.send("initialize", INTRODUCTION), debug.send("attach")]
    sent += [debug.send("debugInfo"), debug.send("setExceptionBreakpoints", {"filters": []}), debug.send("threads")]
    replies = [pending.wait().content for pending in sent]
    assert [reply["success"] for reply in replies] == [True] * 5
    assert replies[2]["body"]["isStarted"] is True


@MPKERNEL
def test_bad_content_is_refused(shared_kernel: Kernel) -> None:
    for content in ({}, {"command": 5}, {"command": "debugInfo", "arguments": []}, {"seq": "x", "command": "modules"}):
        reply = shared_kernel.control("debug_request", content).content
        assert reply["type"] == "response"
    reply = shared_kernel.control("debug_request", {"command": "debugInfo"}, "no-such-subshell").content
    assert reply["success"] is False
    assert "no subshell" in reply["message"]


# --- the end of a session -----------------------------------------------------------------------------------------


@MPKERNEL
def test_disconnect_at_a_breakpoint_lets_the_cell_go_on(kernel: Kernel, debug: Debugging) -> None:
    debug.set_breakpoints(CELL, 2)
    cell = debug.stop(CELL)
    debug.ask("disconnect", restart=False, terminateDebuggee=True)
    assert cell.wait().stdout == "4\n"
    assert debug.ask("debugInfo")["isStarted"] is False
    assert debug.ask("debugInfo")["breakpoints"] == []
    assert kernel.run(CELL).stdout == "4\n"
    debug.attach()
    debug.set_breakpoints(CELL, 2)
    again = debug.stop(CELL)
    debug.ask("terminate")
    assert again.wait().stdout == "4\n"


@MPKERNEL
def test_interrupting_a_stopped_cell_ends_it(kernel: Kernel, debug: Debugging) -> None:
    debug.set_breakpoints(CELL, 2)
    cell = debug.stop(CELL)
    kernel.interrupt()
    assert cell.wait().ename == "KeyboardInterrupt"
    debug.wait_for("continued")
    assert debug.ask("debugInfo")["stoppedThreads"] == []
    again = debug.stop(CELL)  # the breakpoint is still there
    debug.ask("continue", threadId=1)
    assert again.wait().stdout == "4\n"


@MPKERNEL
def test_an_endless_evaluation_can_be_interrupted(kernel: Kernel, debug: Debugging) -> None:
    debug.set_breakpoints(CELL, 2)
    cell = debug.stop(CELL)
    frame = debug.frames[0]["id"]
    expression = "print('ready', flush=True) or [None for _ in iter(int, 1)]"
    endless = debug.send("evaluate", {"expression": expression, "frameId": frame})
    cell.wait_for_stream("ready")
    assert debug.ask("debugInfo")["stoppedThreads"] == [1]
    kernel.interrupt()
    assert "KeyboardInterrupt" in endless.wait().content["body"]["result"]
    assert not cell.is_done  # the interrupt was for the evaluation
    debug.ask("disconnect")
    cell.wait()


@MPKERNEL
@pytest.mark.parametrize("how", ["os.kill", "mpkernel kill", "delete"])
def test_when_the_stopped_process_ends_the_debugger_says_terminated(kernel: Kernel, how: str) -> None:
    subshell = kernel.create_subshell()
    debug = Debugging(kernel, subshell)
    debug.attach()
    debug.set_breakpoints(CELL, 2)
    pid = kernel.value("__import__('os').getpid()", subshell)
    cell = debug.stop(CELL)
    if how == "os.kill":
        os.kill(pid, signal.SIGKILL)
    elif how == "mpkernel kill":
        kernel.control("mpkernel_request", {"op": "kill", "subshell": subshell})
    else:
        kernel.delete_subshell(subshell)
    debug.wait_for("terminated")
    assert cell.wait().status == "error"
    if how != "delete":
        assert debug.ask("debugInfo")["isStarted"] is False
        debug.attach()
        debug.set_breakpoints(CELL, 2)
        again = debug.stop(CELL)
        debug.ask("continue", threadId=1)
        assert again.wait().stdout == "4\n"


@MPKERNEL
def test_a_kernel_that_is_stopped_at_a_breakpoint_shuts_down(kernel: Kernel, debug: Debugging) -> None:
    debug.set_breakpoints(CELL, 2)
    debug.stop(CELL)
    assert kernel.shut_down() == []


# --- subshells ----------------------------------------------------------------------------------------------------


@MPKERNEL
def test_one_subshell_is_debugged_while_the_others_run(kernel: Kernel) -> None:
    first, second = kernel.create_subshell(), kernel.create_subshell()
    debug = Debugging(kernel, first)
    debug.attach()
    debug.set_breakpoints(CELL, 2)
    assert kernel.run(CELL).stdout == "4\n"
    assert kernel.run(CELL, second).stdout == "4\n"
    cell = debug.stop(CELL)
    assert kernel.run("total + 1", second).text == "5"
    assert Debugging(kernel).ask("debugInfo")["stoppedThreads"] == []
    debug.ask("continue", threadId=1)
    assert cell.wait().stdout == "4\n"


@MPKERNEL
def test_two_subshells_are_debugged_at_once(kernel: Kernel, debug: Debugging) -> None:
    child = Debugging(kernel, kernel.create_subshell())
    child.attach()
    paths = {each.set_breakpoints(CELL, 2) for each in (debug, child)}
    assert len(paths) == 1  # a cell has one name in the whole kernel
    cells = [each.stop(CELL) for each in (debug, child)]
    child.ask("continue", threadId=1)
    assert cells[1].wait().stdout == "4\n"
    assert not cells[0].is_done
    debug.ask("continue", threadId=1)
    assert cells[0].wait().stdout == "4\n"


@MPKERNEL
def test_a_breakpoint_stops_in_a_function_that_another_subshell_defined(kernel: Kernel) -> None:
    kernel.run(CELL)
    debug = Debugging(kernel, kernel.create_subshell())
    debug.attach()
    debug.set_breakpoints(CELL, 2)
    cell = debug.stop("add(10)")
    assert debug.scope("Locals") == {"n": "10"}
    debug.ask("continue", threadId=1)
    assert cell.wait().text == "11"


@MPKERNEL
def test_what_a_stopped_subshell_has_is_there_for_the_others(kernel: Kernel, debug: Debugging) -> None:
    code = "before = [1]\nbefore.append(2)\nafter = 1\n"
    debug.set_breakpoints(code, 3)
    cell = debug.stop(code)
    assert kernel.value("before", kernel.create_subshell()) == [1, 2]
    debug.ask("continue", threadId=1)
    cell.wait()


@MPKERNEL
def test_what_is_changed_at_a_breakpoint_reaches_the_others(kernel: Kernel, debug: Debugging) -> None:
    kernel.run("xs, count = [1], 1")
    child = kernel.create_subshell()
    debug.set_breakpoints("pass", 1)
    cell = debug.stop("pass")
    frame = debug.frames[0]["id"]
    debug.ask("evaluate", expression="xs.append(2)", frameId=frame, context="repl")
    debug.ask("setExpression", expression="count", value="7", frameId=frame)
    debug.ask("continue", threadId=1)
    cell.wait()
    assert kernel.value("(xs, count)", child) == ([1, 2], 7)


def test_a_forked_child_does_not_stop(kernel: Kernel, debug: Debugging) -> None:
    code = "def work(n):\n    return n + 1\nimport multiprocessing\n"
    code += "with multiprocessing.get_context('fork').Pool(1) as pool:\n    print(pool.map(work, [1, 2]))\n"
    debug.set_breakpoints(code, 2)
    if KERNEL == "mpkernel":
        assert kernel.run(code).stdout == "[2, 3]\n"


# --- options ------------------------------------------------------------------------------------------------------


@MPKERNEL
def test_the_kernels_own_frames_can_be_shown() -> None:
    with start_kernel("--MPKernelApp.filter_internal_frames=False") as kernel:
        debug = Debugging(kernel)
        debug.attach()
        debug.set_breakpoints(CELL, 2)
        cell = debug.stop(CELL)
        assert any("mpkernel" in frame["source"]["path"] for frame in debug.frames)
        debug.ask("continue", threadId=1)
        cell.wait()


@MPKERNEL
@pytest.mark.parametrize("just_my_code", [False, True])
def test_libraries_are_stepped_into_unless_only_my_code_is_wanted(*, just_my_code: bool) -> None:
    with start_kernel(f"--MPKernelApp.debug_just_my_code={just_my_code}") as kernel:
        debug = Debugging(kernel)
        debug.attach()
        code = "import colorsys\ncolorsys.rgb_to_hls(0, 1, 0)\nx = 1\n"
        debug.set_breakpoints(code, 2)
        cell = debug.stop(code)
        debug.ask("stepIn", threadId=1)
        debug.wait_for("stopped")
        assert debug.frames[0]["name"] == ("<module>" if just_my_code else "rgb_to_hls")
        debug.ask("disconnect")
        cell.wait()


# --- pdb, over stdin ----------------------------------------------------------------------------------------------


def answer(kernel: Kernel, code: str, *commands: str) -> tuple[list[str], str]:
    """Run `code`, answer its prompts with `commands`; returns the prompts, and what was printed."""
    pending = kernel.submit(code, allow_stdin=True)
    prompts = []
    for count, command in enumerate(commands, 1):
        pending.wait_until(lambda count=count: len(pending.input_requests) >= count or pending.is_done, "prompt")
        assert not pending.is_done, pending.stdout
        prompts.append(pending.input_requests[-1].content["prompt"])
        kernel.answer_input(pending.input_requests[-1], command)
    return prompts, ANSI.sub("", pending.wait().stdout)


@MPKERNEL
@pytest.mark.parametrize("used_before", [False, True])
@pytest.mark.parametrize("call", ["breakpoint()", "__import__('pdb').set_trace()"])
def test_a_breakpoint_in_the_code_without_a_debugger_asks_on_stdin(
    kernel: Kernel, call: str, *, used_before: bool
) -> None:
    if used_before:
        debug = Debugging(kernel)
        debug.attach()
        debug.ask("disconnect")
    prompts, printed = answer(kernel, f"def f(n):\n    {call}\n    return n\nf(42)", "p n + 1", "c")
    assert prompts == ["ipdb> ", "ipdb> "]
    assert "43\n" in printed
    assert "return n" in printed


@MPKERNEL
def test_a_breakpoint_in_the_code_stops_in_an_attached_debugger(kernel: Kernel, debug: Debugging) -> None:
    cell = debug.stop("def f(n):\n    breakpoint()\n    return n\nf(42)")
    assert debug.frames[0]["name"] == "f"
    debug.ask("continue", threadId=1)
    assert cell.wait().text == "42"


def test_the_debug_magic_looks_at_the_last_error(kernel: Kernel) -> None:
    kernel.run("def f(n):\n    return n / 0\nf(42)")
    prompts, printed = answer(kernel, "%debug", "p n", "q")
    assert prompts == ["ipdb> ", "ipdb> "]
    assert "42\n" in printed


def test_the_pdb_magic_has_errors_looked_at(kernel: Kernel) -> None:
    kernel.run("%pdb on")
    prompts, printed = answer(kernel, "def f(n):\n    return n / 0\nf(42)", "p n", "q")
    assert prompts == ["ipdb> ", "ipdb> "]
    assert "42\n" in printed


@MPKERNEL
@pytest.mark.parametrize("code", ["breakpoint()\nprint('on')", "%debug", "%pdb on\n1 / 0"])
def test_pdbs_prompt_can_be_interrupted(kernel: Kernel, code: str) -> None:
    kernel.run("1 / 0")
    pending = kernel.submit(code, allow_stdin=True)
    pending.wait_for_input_request()
    kernel.interrupt()
    pending.wait()
    kernel.run("%pdb off")
    assert kernel.run("1 + 1").text == "2"
