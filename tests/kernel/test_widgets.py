"""Comms and widgets: whose callbacks run when, where their output goes, and what outlives what."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from .driver import Json, Kernel, Message, Pending, start_kernel

# Takes comms of the target "echo"; each message is noted, answered, and does what it says.
ECHO = """
import comm, threading
heard = []
def opened(c, _):
    def on_msg(message):
        data = message["content"]["data"]
        heard.append((data.get("n"), threading.current_thread() is threading.main_thread()))
        exec(data.get("do", ""), globals())
        c.send({"echo": data.get("n")})
    c.on_msg(on_msg)
comm.get_comm_manager().register_target("echo", opened)
"""

# ipykernel lets a comm's first messages wait for the cell, until the comm has been used by a cell.
pytestmark = pytest.mark.mpkernel_only("the first messages of a comm wait for the cell")

BUSY = "stop = False\nprint('ready')\nwhile not stop: pass"

needs_widgets = pytest.mark.skipif(not importlib.util.find_spec("ipywidgets"), reason="ipywidgets is not installed")
needs_ipympl = pytest.mark.skipif(not importlib.util.find_spec("ipympl"), reason="ipympl is not installed")


class Comm:
    """A comm as JupyterLab has it: with a subshell that was made for it."""

    def __init__(self, kernel: Kernel, comm_id: str, under: str | None) -> None:
        self.kernel, self.id, self.under = kernel, comm_id, under

    def start(self, content: Json, **options: Any) -> Pending:
        options.setdefault("subshell", self.under)
        return self.kernel.send("comm_msg", {"comm_id": self.id, "data": content}, **options)

    def send(self, content: Json, **options: Any) -> list[Message]:
        """What comes back for a message, up to idle."""
        return self.start(content, **options).wait_for_idle()


def echo(kernel: Kernel, subshell: str | None = None) -> Comm:
    """A comm that the front end has opened, of which `ECHO` hears in that subshell."""
    assert kernel.run(ECHO, subshell).status == "ok"
    under = kernel.create_subshell()
    kernel.send("comm_open", {"comm_id": "c", "target_name": "echo", "data": {}}, subshell=under).wait_for_idle()
    return Comm(kernel, "c", under)


def types(messages: list[Message]) -> list[str]:
    return [message.type for message in messages if message.type != "status"]


def text(messages: list[Message]) -> str:
    return "".join(message.content["text"] for message in messages if message.type == "stream")


def echoed(messages: list[Message]) -> list[Any]:
    return [message.content["data"]["echo"] for message in messages if message.type == "comm_msg"]


# --- callbacks beside a cell ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [BUSY, "import time\nstop = False\nprint('ready')\nwhile not stop: time.sleep(0.01)"])
def test_a_callback_runs_while_the_cell_computes_and_can_end_it(kernel: Kernel, code: str) -> None:
    comm = echo(kernel)
    cell = kernel.start(code)
    assert echoed(comm.send({"n": 1})) == [1]
    assert not cell.is_done
    comm.send({"do": "stop = True"})
    assert cell.wait().status == "ok"


def test_a_callback_runs_in_the_main_thread_while_the_cell_awaits(kernel: Kernel) -> None:
    comm = echo(kernel)
    cell = kernel.start(
        "import asyncio\nloop = asyncio.get_running_loop()\nfuture = loop.create_future()\n"
        "loop.call_soon(print, 'ready')  # that is: once the cell awaits\nawait future"
    )
    assert echoed(comm.send({"n": 1, "do": "future.set_result(42)"})) == [1]
    assert cell.wait().text == "42"
    assert kernel.value("heard") == [(1, True)]


def test_a_cell_can_await_a_message_under_no_subshells_id(kernel: Kernel) -> None:
    comm = echo(kernel)
    cell = kernel.start(
        "import asyncio\nfuture = asyncio.get_running_loop().create_future()\nprint('ready')\nawait future"
    )
    queued = kernel.submit("future.result()")
    comm.start({"do": "future.set_result(42)"}, subshell=None)
    assert cell.wait().text == "42"
    assert queued.wait().text == "42"


def test_a_callback_runs_in_the_main_thread_while_nothing_runs(kernel: Kernel) -> None:
    comm = echo(kernel)
    comm.send({"n": 1})
    assert kernel.value("heard") == [(1, True)]


def test_a_message_under_no_subshells_id_waits_for_a_cell_that_computes(kernel: Kernel) -> None:
    comm = echo(kernel)
    cell = kernel.start(BUSY)
    waiting = comm.start({"n": 1}, subshell=None)
    kernel.barrier()
    assert not waiting.is_idle
    assert echoed(comm.send({"n": 2})) == [2]
    assert waiting.is_idle  # a comm's messages keep their order
    comm.send({"do": "stop = True"})
    cell.wait()
    assert kernel.value("[n for n, _ in heard]") == [1, 2, None]


def test_a_message_waits_where_that_is_wanted() -> None:
    with start_kernel("--comms-while-busy=wait") as kernel:
        comm = echo(kernel)
        gate = kernel.gate("gate")
        cell = kernel.submit(gate.pass_through)
        waiting = comm.start({"n": 1})
        kernel.barrier()
        assert not waiting.is_idle
        gate.release()
        cell.wait()
        assert echoed(waiting.wait_for_idle()) == [1]


def test_a_message_may_be_handled_between_two_statements() -> None:
    with start_kernel("--comms-while-busy=statement") as kernel:
        comm = echo(kernel)
        gate = kernel.gate("gate")
        wait_for_it = "if not heard: time.sleep(0.05)\n" * 100  # the message may come a little later than the gate's
        cell = kernel.submit(f"{gate.pass_through}\nimport time\n{wait_for_it}assert heard == [(1, True)]")
        waiting = comm.start({"n": 1})
        kernel.barrier()
        gate.release()
        assert cell.wait().status == "ok"
        waiting.wait_for_idle()


def test_a_slow_callback_holds_up_no_cell_where_that_is_wanted() -> None:
    with start_kernel("--comms-while-busy=always") as kernel:
        comm = echo(kernel)
        gate = kernel.gate("gate")
        slow = comm.start({"n": 1, "do": f"{gate.pass_through}; late = 42"})
        assert kernel.value("6 * 7") == 42
        assert not slow.is_idle
        gate.release()
        slow.wait_for_idle()
        assert kernel.value("heard, late") == ([(1, False)], 42)  # in a thread


def test_callbacks_run_one_at_a_time_in_order(kernel: Kernel) -> None:
    comm = echo(kernel)
    cell = kernel.start(BUSY)
    pending = [comm.start({"n": n}, subshell=comm.under if n % 3 else None) for n in range(30)]
    comm.send({"do": "stop = True"})
    cell.wait()
    for each in pending:
        each.wait_for_idle()
    assert kernel.value("[n for n, _ in heard]") == [*range(30), None]


def test_what_a_callback_prints_and_raises_belongs_to_its_message(kernel: Kernel) -> None:
    comm = echo(kernel)
    cell = kernel.start(BUSY)
    assert text(comm.send({"do": "print('hello')"})) == "hello\n"
    failed = comm.send({"do": "1 / 0"})
    assert [m.content["ename"] for m in failed if m.type == "error"] == ["ZeroDivisionError"]
    comm.send({"do": "stop = True"})
    result = cell.wait()
    assert (result.status, result.output_types) == ("ok", ["stream"])
    assert "hello" not in result.stdout


def test_what_a_callback_starts_goes_on_and_belongs_to_its_message(kernel: Kernel) -> None:
    comm = echo(kernel)
    cell = kernel.start(BUSY)
    task = "import asyncio\nasync def work():\n    await asyncio.sleep(0.01)\n    print('from the task')\n"
    pending = comm.start({"do": task + "task = asyncio.get_running_loop().create_task(work())"})
    pending.wait_for_stream("from the task")
    comm.send({"do": "stop = True"})
    cell.wait()


@pytest.mark.parametrize("beside", [True, False])
def test_a_callback_that_runs_for_ever_is_interrupted(kernel: Kernel, beside: bool) -> None:
    comm = echo(kernel)
    cell = kernel.start(BUSY) if beside else None
    pending = comm.start({"do": "print('looping')\nwhile True: pass"})
    pending.wait_for_stream("looping")
    if cell is not None:
        kernel.interrupt()
        assert cell.wait().ename == "KeyboardInterrupt"
    kernel.interrupt()
    errors = [m.content["ename"] for m in pending.wait_for_idle() if m.type == "error"]
    assert errors == ["KeyboardInterrupt"]
    assert kernel.value("6 * 7") == 42


def test_an_interrupt_of_an_awaiting_cell_leaves_callbacks_alone(kernel: Kernel) -> None:
    comm = echo(kernel)
    cell = kernel.start("import asyncio\nprint('ready')\nawait asyncio.sleep(100)")
    assert echoed(comm.send({"n": 1})) == [1]
    kernel.interrupt()
    assert cell.wait().ename == "KeyboardInterrupt"
    assert echoed(comm.send({"n": 2})) == [2]


@pytest.mark.parametrize("busy", [True, False])
def test_what_a_callback_changes_is_seen_by_other_subshells(kernel: Kernel, busy: bool) -> None:
    comm, child = echo(kernel), kernel.create_subshell()
    kernel.run("count = 0; seen = []")
    assert kernel.value("count", child) == 0
    cell = kernel.start(BUSY) if busy else None
    comm.send({"do": "count = 7; seen.append(1)"})
    assert kernel.value("count, seen", child) == (7, [1])
    if cell is not None:
        comm.send({"do": "stop = True"})
        cell.wait()


AWAITING = "import asyncio\nfuture = asyncio.get_running_loop().create_future()\nprint('ready')\nawait future"


@pytest.mark.parametrize("code", [BUSY, AWAITING])
def test_a_callback_beside_a_cell_changes_what_came_from_elsewhere(kernel: Kernel, code: str) -> None:
    comm, child = echo(kernel), kernel.create_subshell()
    kernel.run("seen = [[]]")
    kernel.run("seen[0].append('child')", child)
    cell = kernel.start(code)
    comm.send({"do": "seen[0].append('callback')"})
    comm.send({"do": "future.set_result(1)" if code == AWAITING else "stop = True"})
    cell.wait()
    assert kernel.value("seen", child) == [["child", "callback"]]
    assert kernel.value("seen") == [["child", "callback"]]


# --- whose comm it is -------------------------------------------------------------------------------------------------


def test_a_message_to_nobody_is_answered_and_the_comm_closed(kernel: Kernel) -> None:
    messages = kernel.send("comm_msg", {"comm_id": "nobody", "data": {}}).wait_for_idle()
    assert types(messages) == ["comm_close"]


def test_a_comm_of_a_child_subshell_goes_on_between_its_cells(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    comm = echo(kernel, child)
    busy = kernel.start("import time\nprint('ready')\ntime.sleep(100)")
    assert echoed(comm.send({"n": 1})) == [1]
    assert kernel.value("[n for n, _ in heard]", child) == [1]
    kernel.interrupt()
    busy.wait()


def test_the_comms_of_a_worker_that_dies_are_closed(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    comm = echo(kernel, child)
    kernel.run("import os; os._exit(3)", child)
    kernel.wait_until(lambda: "comm_close" in types(kernel.strays), "comm_close")
    assert types(comm.send({"n": 1}, subshell=None)) == ["comm_close"]
    assert kernel.request("comm_info_request").content["comms"] == {}


def test_many_messages_in_both_directions(kernel: Kernel) -> None:
    comm = echo(kernel)
    kernel.run("sent = comm.create_comm(target_name='out')")
    result = kernel.run("for n in range(2000): sent.send({'n': n})")
    assert [content["data"]["n"] for content in result.of_type("comm_msg")] == list(range(2000))
    for each in [comm.start({"n": n}) for n in range(500)]:
        assert len(echoed(each.wait_for_idle())) == 1
    assert kernel.value("[n for n, _ in heard] == list(range(500))") is True


# --- ipywidgets -------------------------------------------------------------------------------------------------------


class Widgets:
    """The front end's side of widgets that cells make: what they were last told to be."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.under = kernel.create_subshell()

    def move(self, name: str, subshell: str | None = None, **state: Any) -> list[Message]:
        """The user changes the widget that has this name in the subshell."""
        return self._send(name, {"method": "update", "state": state, "buffer_paths": []}, subshell)

    def click(self, name: str, subshell: str | None = None) -> list[Message]:
        return self._send(name, {"method": "custom", "content": {"event": "click"}}, subshell)

    def _send(self, name: str, data: Json, subshell: str | None) -> list[Message]:
        return Comm(self.kernel, self.ids[name], self.under).send(data)

    def learn(self, *names: str, subshell: str | None = None) -> None:
        """Note the comm ids of widgets, which can't be asked for while a cell runs."""
        ids = self.kernel.value(f"[w.model_id for w in ({', '.join(names)},)]", subshell)
        self.ids = dict(zip(names, ids, strict=True))


@needs_widgets
def test_a_slider_is_moved_while_a_cell_runs_that_shows_its_value_in_another_widget(kernel: Kernel) -> None:
    widgets = Widgets(kernel)
    kernel.run("import ipywidgets as w; slider = w.IntSlider(); label = w.Label(); bar = w.IntProgress()")
    widgets.learn("slider", "label", "bar")
    cell = kernel.start("import time\nprint('ready')\nwhile slider.value != 5: bar.value += 1; time.sleep(0.01)")
    kernel.wait_until(lambda: "comm_msg" in types(cell.messages), "the running cell's progress")
    widgets.move("slider", value=4)
    assert not cell.is_done
    widgets.move("slider", value=5)
    assert cell.wait().status == "ok"


@needs_widgets
def test_linked_widgets_move_together(kernel: Kernel) -> None:
    widgets = Widgets(kernel)
    kernel.run(
        "import ipywidgets as w; a, b = w.IntSlider(), w.IntSlider(); c = w.IntText()\n"
        "l = w.link((a, 'value'), (b, 'value')); j = w.jslink((a, 'value'), (c, 'value'))"
    )
    widgets.learn("a", "b")
    moved = widgets.move("a", value=7)
    told = {m.content["comm_id"]: m.content["data"]["state"] for m in moved if m.type == "comm_msg"}
    assert told[widgets.ids["b"]] == {"value": 7}
    assert kernel.value("a.value, b.value") == (7, 7)


@needs_widgets
def test_interact_runs_its_function_under_the_message_of_the_slider(kernel: Kernel) -> None:
    widgets = Widgets(kernel)
    shown = kernel.run("import ipywidgets as w\n@w.interact(x=3)\ndef f(x): print('x is', x)")
    assert "x is 3" in shown.stdout
    kernel.run("slider = f.widget.children[0]; out = f.widget.out")
    widgets.learn("slider", "out")
    moved = widgets.move("slider", value=4)
    assert "x is 4" in text(moved)
    (message_id,) = {m.parent["msg_id"] for m in moved}
    states = [m.content["data"]["state"] for m in moved if m.type == "comm_msg" and "state" in m.content["data"]]
    assert {"msg_id": message_id} in states, "the Output widget captures what belongs to this message"


@needs_widgets
def test_an_output_widget_captures_what_its_cell_prints_in_it(kernel: Kernel) -> None:
    result = kernel.run("import ipywidgets as w; out = w.Output()\nwith out: print('inside')")
    states = [c["data"]["state"] for c in result.of_type("comm_msg") if "state" in c["data"]]
    assert [state["msg_id"] for state in states if "msg_id" in state] == [result.messages[0].parent["msg_id"], ""]


@needs_widgets
def test_a_slow_button_holds_up_no_other_subshell_and_its_error_is_shown(kernel: Kernel) -> None:
    widgets, other = Widgets(kernel), kernel.create_subshell()
    gate = kernel.gate("gate")
    kernel.run(
        "import ipywidgets as w; button = w.Button()\n"
        f"def clicked(_):\n    {gate.pass_through}\n    1 / 0\nbutton.on_click(clicked)"
    )
    widgets.learn("button")
    comm = Comm(kernel, widgets.ids["button"], widgets.under)
    clicking = comm.start({"method": "custom", "content": {"event": "click"}})
    kernel.barrier()
    assert kernel.run("6 * 7", other).text == "42"
    gate.release()
    assert [m.content["ename"] for m in clicking.wait_for_idle() if m.type == "error"] == ["ZeroDivisionError"]


@needs_widgets
def test_a_widget_of_a_child_subshell_belongs_to_it(kernel: Kernel) -> None:
    widgets, child = Widgets(kernel), kernel.create_subshell()
    kernel.run("import ipywidgets as w; slider = w.IntSlider()", child)
    widgets.learn("slider", subshell=child)
    widgets.move("slider", value=5)
    assert kernel.value("slider.value", child) == 5
    infos = kernel.request("comm_info_request", {"target_name": "jupyter.widget"}).content["comms"]
    assert widgets.ids["slider"] in infos


@needs_widgets
def test_progress_of_tqdm_is_told_while_the_cell_runs(kernel: Kernel) -> None:
    pytest.importorskip("tqdm")
    gate = kernel.gate("gate")
    cell = kernel.submit(
        f"from tqdm.notebook import tqdm\nfor n in tqdm(range(3), mininterval=0):\n    if n == 2: {gate.pass_through}"
    )

    def values() -> list[Any]:
        states = [m.content["data"].get("state", {}) for m in cell.messages if m.type == "comm_msg"]
        return [state["value"] for state in states if "value" in state]

    kernel.wait_until(lambda: 2 in values(), "a bar at 2, while the cell waits")
    gate.release()
    assert cell.wait().status == "ok"
    assert 3 in values()


@needs_widgets
@needs_ipympl
def test_an_ipympl_figure_is_drawn_and_reacts(kernel: Kernel) -> None:
    widgets = Widgets(kernel)
    result = kernel.run("%matplotlib widget\nimport matplotlib.pyplot as plt\nfig, ax = plt.subplots(); fig.canvas")
    assert result.status == "ok", str(result)
    assert any("application/vnd.jupyter.widget-view+json" in c["data"] for c in result.of_type("display_data"))
    kernel.run("canvas = fig.canvas")
    widgets.learn("canvas")
    data = {"method": "custom", "content": {"type": "draw"}}
    cell = kernel.start(BUSY)
    drawn = Comm(kernel, widgets.ids["canvas"], widgets.under).send(data)
    assert "comm_msg" in types(drawn)
    kernel.interrupt()
    cell.wait()


def test_what_a_callback_beside_a_cell_starts_can_be_ended(kernel: Kernel) -> None:
    comm = echo(kernel)
    kernel.run("import subprocess")
    cell = kernel.start(BUSY)
    shown = comm.send({"do": "p = subprocess.Popen(['sleep', '100']); p.terminate(); ended = p.wait(9)"})
    assert "error" not in types(shown)
    kernel.interrupt()
    cell.wait()
    assert kernel.value("ended") == -15


def test_a_task_of_a_callback_that_exits_ends_no_callbacks(kernel: Kernel) -> None:
    comm = echo(kernel)
    kernel.run("import asyncio, sys\nasync def leave(): sys.exit(3)")
    cell = kernel.start(BUSY)
    comm.send({"do": "task = asyncio.get_running_loop().create_task(leave())"})
    assert echoed(comm.send({"do": "stop = True"})) != []
    cell.wait()


# --- plots ------------------------------------------------------------------------------------------------------------


def test_a_callback_and_the_cell_beside_it_each_show_their_own_figures(kernel: Kernel) -> None:
    comm = echo(kernel)
    gate = kernel.gate("gate")
    cell = kernel.start(f"import matplotlib.pyplot as plt\nplt.plot([1])\nprint('ready')\n{gate.pass_through}")
    shown = comm.send({"do": "plt.plot([2]); fignums = plt.get_fignums()"})
    assert types(shown).count("display_data") == 1
    gate.release()
    assert cell.wait().output_types == ["stream", "display_data"]
    assert kernel.value("fignums, plt.get_fignums()") == ([1], [])


def test_a_callback_beside_a_cell_shows_no_figure_that_the_cell_would_not(kernel: Kernel) -> None:
    comm = echo(kernel)
    gate = kernel.gate("gate")
    kernel.run("%matplotlib agg\nimport matplotlib.pyplot as plt\nplt.plot([1])\n%matplotlib inline")
    cell = kernel.start(f"print('ready')\n{gate.pass_through}")
    assert "display_data" not in types(comm.send({"do": "plt.get_fignums()"}))
    gate.release()
    assert cell.wait().output_types == ["stream"]
    assert kernel.value("plt.get_fignums()") == [1]


def test_subshells_plot_at_the_same_time(kernel: Kernel) -> None:
    shells = [None, *(kernel.create_subshell() for _ in range(3))]
    code = "import matplotlib.pyplot as plt\nplt.plot(range({n}))\nplt.title('{n}')\nNone"
    pending = [kernel.submit(code.format(n=n), shell) for n in range(8) for shell in shells]
    results = [each.wait(60) for each in pending]
    assert [r.status for r in results] == ["ok"] * 32
    assert [[kind for kind in r.output_types if kind != "stream"] for r in results] == [["display_data"]] * 32
    # On a busy machine four processes that import matplotlib may not answer each other in time.
    assert all("does not answer" in r.stderr for r in results if "stream" in r.output_types)
