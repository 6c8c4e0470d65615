"""Results, displays, errors, payloads and history: what comes with a cell besides its text output."""

from __future__ import annotations

import sys

import IPython
import pytest

from .driver import Kernel, start_kernel

needs_ipython_9 = pytest.mark.skipif(IPython.version_info < (9,), reason="needs IPython 9")

RICH = """
class Rich:
    def __repr__(self): return 'plain'
    def _repr_html_(self): return '<b>rich</b>'
    def _repr_png_(self): return b'\\x89PNG bytes'
    def _repr_latex_(self): return None
"""


# --- results --------------------------------------------------------------------------------------------------------


def test_the_last_expression_is_the_result(shared_kernel: Kernel) -> None:
    assert shared_kernel.run("1; 'two'").data == {"text/plain": "'two'"}
    assert shared_kernel.run("'three';").data == {}
    assert shared_kernel.run("None").data == {}
    assert shared_kernel.run("x = 4").data == {}


def test_results_are_kept_in_underscores_and_out(kernel: Kernel, shell: str | None) -> None:
    for code in ("'first'", "'second'", "'third'"):
        kernel.run(code, shell)
    count = kernel.run("pass", shell).content["execution_count"]
    assert kernel.value("(_, __, ___)", shell) == ("third", "second", "first")
    assert kernel.value(f"(Out[{count - 1}], _{count - 3}, In[{count - 1}], _i{count - 2})", shell) == (
        "third",
        "first",
        "'third'",
        "'second'",
    )


def test_a_result_has_the_execution_count_of_its_cell(shared_kernel: Kernel) -> None:
    result = shared_kernel.run("1")
    count = result.content["execution_count"]
    assert result.of_type("execute_result")[0]["execution_count"] == count
    assert result.of_type("execute_input") == [{"code": "1", "execution_count": count}]
    assert shared_kernel.run("1").content["execution_count"] == count + 1


def test_rich_representations_are_offered(shared_kernel: Kernel) -> None:
    data = shared_kernel.run(RICH + "Rich()").data
    assert data["text/plain"] == "plain"
    assert data["text/html"] == "<b>rich</b>"
    assert data["image/png"].rstrip("\n") == "iVBORyBieXRlcw=="
    assert "text/latex" not in data


def test_a_mimebundle_carries_data_and_metadata(shared_kernel: Kernel) -> None:
    code = (
        "class Bundle:\n    def _repr_mimebundle_(self, **kwargs):\n"
        "        return {'application/x-own': {'a': 1}}, {'application/x-own': {'width': 5}}\nBundle()"
    )
    content = shared_kernel.run(code).of_type("execute_result")[0]
    assert content["data"]["application/x-own"] == {"a": 1}
    assert content["metadata"] == {"application/x-own": {"width": 5}}


def test_an_object_whose_repr_fails_is_told_of(shared_kernel: Kernel) -> None:
    result = shared_kernel.run("class Bad:\n    def __repr__(self): raise ValueError('no repr')\nBad()")
    assert "no repr" in result.stderr + str(result.outputs[-1].content)
    assert shared_kernel.value("6 * 7") == 42


def test_sys_displayhook_shows_a_result_and_may_be_replaced(shared_kernel: Kernel) -> None:
    assert shared_kernel.run("import sys; sys.displayhook(42); None").text == "42"
    assert shared_kernel.run("sys.displayhook(None)").data == {}
    assert shared_kernel.run("kept = sys.displayhook\nkept.__class__.__name__").text == "'ZMQShellDisplayHook'"


# --- displays --------------------------------------------------------------------------------------------------------


def test_display_shows_objects_and_raw_bundles(shared_kernel: Kernel) -> None:
    contents = shared_kernel.run(RICH + "display(Rich(), 'two')\ndisplay({'text/plain': 'three'}, raw=True)").of_type(
        "display_data"
    )
    assert [content["data"]["text/plain"] for content in contents] == ["plain", "'two'", "three"]
    assert contents[0]["data"]["text/html"] == "<b>rich</b>"


def test_a_display_is_updated_by_its_id(shared_kernel: Kernel) -> None:
    shown = shared_kernel.run("handle = display('first', display_id='mine')").of_type("display_data")[0]
    assert shown["transient"] == {"display_id": "mine"}
    for code in (
        "handle.update('second')",
        "from IPython.display import update_display; update_display('second', display_id='mine')",
    ):
        updated = shared_kernel.run(code).of_type("update_display_data")
        assert [content["data"]["text/plain"] for content in updated] == ["'second'"]
        assert updated[0]["transient"] == {"display_id": "mine"}


def test_a_display_is_updated_from_another_subshell(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    kernel.run("d = display('first', display_id='mine')")
    result = kernel.run("from IPython.display import update_display; update_display('2', display_id='mine')", child)
    assert result.of_type("update_display_data")[0]["transient"] == {"display_id": "mine"}


@pytest.mark.parametrize("wait", [True, False])
def test_output_is_cleared(shared_kernel: Kernel, wait: bool) -> None:
    result = shared_kernel.run(
        f"from IPython.display import clear_output\nprint('a')\nclear_output(wait={wait})\nprint('b')"
    )
    assert result.output_types == ["stream", "clear_output", "stream"]
    assert result.of_type("clear_output") == [{"wait": wait}]


def test_a_figure_is_shown_inline_by_its_own_cell(kernel: Kernel, shell: str | None) -> None:
    result = kernel.run("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nNone", shell, timeout=60)
    assert result.status == "ok", str(result)
    assert ["image/png" in content["data"] for content in result.of_type("display_data")] == [True]
    assert kernel.run("pass", shell).outputs == []


def test_a_formatter_that_raises_fails_its_cell(shared_kernel: Kernel) -> None:
    code = "class A:\n    def _repr_html_(self): raise ValueError('no html')\n    def __repr__(self): return 'a'\nA()"
    result = shared_kernel.run(code)
    assert (result.ename, result.text) == ("ValueError", "a")
    assert shared_kernel.run("1").status == "ok"


@pytest.mark.parametrize("code", ["display({'application/x-own': object()}, raw=True)", "B()"])
def test_what_is_no_json_is_told_of(shared_kernel: Kernel, code: str) -> None:
    shared_kernel.run("class B:\n    def _repr_mimebundle_(self, **_): return {'application/x-own': object()}")
    assert "object" in shared_kernel.run(code).content["evalue"]
    assert shared_kernel.value("6 * 7") == 42


def test_bytes_are_sent_as_base64(shared_kernel: Kernel) -> None:
    code = "display({'image/png': b'\\x89PNG', 'application/pdf': b'%PDF', 'text/plain': 'x'}, raw=True)"
    (content,) = shared_kernel.run(code).of_type("display_data")
    assert (content["data"]["image/png"], content["data"]["application/pdf"]) == ("iVBORw==", "JVBERg==")


def test_a_repr_that_never_ends_is_interrupted(kernel: Kernel) -> None:
    cell = kernel.start("class E:\n    def __repr__(self):\n        print('ready')\n        while True: pass\nE()")
    kernel.interrupt()
    assert cell.wait().status == "error"
    assert kernel.value("6 * 7") == 42


def test_a_display_is_updated_from_a_thread(shared_kernel: Kernel) -> None:
    code = "import threading\nd = display('a', display_id='t')\nt = threading.Thread(target=d.update, args=('b',))\n"
    result = shared_kernel.run(code + "t.start(); t.join()")
    assert [c["data"]["text/plain"] for c in result.of_type("update_display_data")] == ["'b'"]


def test_hooks_see_change_and_swallow_messages(shared_kernel: Kernel) -> None:
    hook = "def hook(m):\n    m['content']['data'] = {'text/plain': m['msg_type']}\n    return m\nip = get_ipython()\n"
    for target, show in (("display_pub", "display(1)"), ("displayhook", "1")):
        result = shared_kernel.run(f"{hook}ip.{target}.register_hook(hook)\n{show}")
        (output,) = result.outputs
        assert output.content["data"] == {"text/plain": output.type}
        code = f"ip.{target}.unregister_hook(hook); ip.{target}.register_hook(quiet := lambda m: None)\n{show}"
        assert shared_kernel.run(code).outputs == []
        assert shared_kernel.run(f"assert ip.{target}.unregister_hook(quiet)\n{show}").output_types == [output.type]


@pytest.mark.mpkernel_only("the hooks of streams are never called")
def test_hooks_of_a_stream(shared_kernel: Kernel) -> None:
    code = (
        "import sys\ndef loud(m):\n    m['content']['text'] = m['content']['text'].upper()\n    return m\n"
        "sys.stdout.register_hook(loud); print('loud'); sys.stdout.unregister_hook(loud)\n"
        "quiet = lambda m: None\nsys.stdout.register_hook(quiet); print('gone'); sys.stdout.unregister_hook(quiet)\n"
        "print('as ever')"
    )
    assert shared_kernel.run(code).stdout == "LOUD\nas ever\n"


@needs_ipython_9
def test_displays_are_kept_for_the_notebook_magic(shared_kernel: Kernel) -> None:
    code = (
        "ip = get_ipython(); ip.display_pub.store_display_history = True; display('kept')\n"
        "ip.display_pub.store_display_history = False; display('not kept')\n"
        "kept = [o.bundle['text/plain'] for o in ip.history_manager.outputs[ip.execution_count]"
        " if o.output_type == 'display_data']"
    )
    assert shared_kernel.run(code).status == "ok"
    assert shared_kernel.value("kept") == ["'kept'"]


# --- figures and GUIs ------------------------------------------------------------------------------------------------


def test_figures_are_shown_where_they_are_asked_for_and_closed(kernel: Kernel) -> None:
    code = "import matplotlib.pyplot as plt\nplt.plot([1])\nplt.show()\nprint('after')\nfig = plt.figure()\nNone"
    assert kernel.run(code, timeout=60).output_types == ["display_data", "stream", "display_data"]
    assert kernel.value("plt.get_fignums()") == []
    assert kernel.run("display(fig)").output_types == ["display_data"]


def test_the_formats_of_figures_are_configured(kernel: Kernel) -> None:
    code = "%config InlineBackend.figure_formats = ['svg', 'png']\nimport matplotlib.pyplot as plt\nplt.plot([1]);"
    (content,) = kernel.run(code, timeout=60).of_type("display_data")
    assert {"image/svg+xml", "image/png"} <= content["data"].keys()


def test_agg_shows_nothing_and_keeps_its_figures(kernel: Kernel) -> None:
    code = "%matplotlib agg\nimport matplotlib.pyplot as plt\nplt.plot([1]);"
    assert kernel.run(code, timeout=60).outputs == []
    assert kernel.value("plt.get_fignums()") == [1]


def test_a_figure_whose_cell_is_interrupted_is_not_left_to_the_next(kernel: Kernel) -> None:
    cell = kernel.start("import matplotlib.pyplot as plt\nplt.plot([1])\nprint('ready')\nwhile True: pass")
    kernel.interrupt()
    assert cell.wait().ename == "KeyboardInterrupt"
    assert kernel.run("pass").outputs == []


def test_an_animation_is_html(kernel: Kernel) -> None:
    code = (
        "import matplotlib.pyplot as plt, matplotlib.animation as ma\nfrom IPython.display import HTML\n"
        "fig, ax = plt.subplots(); line, = ax.plot([0, 1])\n"
        "a = ma.FuncAnimation(fig, lambda n: line.set_ydata([0, n]), frames=2)\n"
        "h = a.to_jshtml(); plt.close(fig)\nHTML(h)"
    )
    assert "<script" in kernel.run(code, timeout=60).data["text/html"]


@pytest.mark.mpkernel_only("it has other words")
@pytest.mark.parametrize("gui", ["tk", "qt", "osx", "nonsense"])
def test_a_gui_without_a_display_is_told_of(gui: str) -> None:
    with start_kernel(env={"DISPLAY": "", "WAYLAND_DISPLAY": "", "QT_QPA_PLATFORM": ""}) as kernel:
        result = kernel.run(f"%gui {gui}")
        assert f"{gui}" in result.stderr + result.traceback
        assert kernel.run("%gui asyncio\n%gui").status == "ok"


@pytest.mark.mpkernel_only("it has no osx here and doesn't say so")
@pytest.mark.skipif(sys.platform == "darwin", reason="it says something else there")
def test_gui_osx_elsewhere_says_what_it_needs(kernel: Kernel) -> None:
    assert "%gui osx needs macOS" in kernel.run("%gui osx").stderr


TOOLKIT = """
from ipykernel.eventloops import register_integration
seen = []
@register_integration("own", "alias")
def loop_own(kernel):
    seen.append(kernel)
    if len(seen) == 3: print("three", kernel._poll_interval > 0)
@loop_own.exit
def leave(kernel): print("left", kernel is get_ipython().kernel)
"""


@pytest.mark.mpkernel_only("there the function waits for the kernel's own socket")
def test_a_library_brings_a_toolkit_of_its_own(kernel: Kernel) -> None:
    assert kernel.run(TOOLKIT).status == "ok"
    chosen = kernel.submit("%gui alias")
    chosen.wait_for_stream("three True")
    assert kernel.value("seen[0] is get_ipython().kernel, get_ipython().active_eventloop") == (True, "alias")
    assert kernel.run("%gui\nend = len(seen)").stdout == "left True\n"
    assert kernel.value("import asyncio; await asyncio.sleep(0.05); len(seen) == end") is True


def test_a_toolkit_that_fails_is_told_of_and_left(kernel: Kernel) -> None:
    kernel.run("from ipykernel.eventloops import register_integration\n@register_integration('bad')\ndef f(k): 1 / 0")
    assert "bad event loop has ended: division by zero" in kernel.run("%gui bad").stderr
    assert kernel.value("1 + 1") == 2


# --- errors ----------------------------------------------------------------------------------------------------------


def test_an_error_is_shown_and_replied_alike(kernel: Kernel, shell: str | None) -> None:
    result = kernel.run("def f(): return 1 / 0\nf()", shell)
    assert (result.status, result.ename, result.content["evalue"]) == ("error", "ZeroDivisionError", "division by zero")
    assert result.error is not None
    assert {name: result.content[name] for name in ("ename", "evalue", "traceback")} == result.error
    assert "Cell In[1], line 2" in result.traceback
    assert "def f(): return 1 / 0" in result.traceback
    assert "mpkernel" not in result.traceback


@pytest.mark.parametrize(
    ("code", "ename"),
    [
        ("1 +", "SyntaxError"),
        ("class Own(Exception): pass\nraise Own('why')", "Own"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("def f(): f()\nf()", "RecursionError"),
        ("raise BaseException('base')", "BaseException"),
    ],
)
def test_a_cell_may_fail_in_any_way(shared_kernel: Kernel, code: str, ename: str) -> None:
    result = shared_kernel.run(code)
    assert result.ename == ename
    assert result.error is not None
    assert result.error["ename"] == ename
    assert shared_kernel.value("6 * 7") == 42


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("%no_such_magic", "no_such_magic"),
        ("raise ExceptionGroup('several', [ValueError(1), TypeError(2)])", "several"),
        ("class Bad(Exception):\n    def __str__(self): raise ValueError('no str')\nraise Bad", "Bad"),
    ],
)
def test_what_ipython_prints_instead_of_raising_is_shown_too(shared_kernel: Kernel, code: str, said: str) -> None:
    result = shared_kernel.run(code)
    assert result.status == "error"
    assert said in result.stderr + result.stdout + result.traceback
    assert shared_kernel.value("6 * 7") == 42


@pytest.mark.parametrize("code", ["import sys; sys.exit(3)", "raise SystemExit"])
def test_system_exit_ends_the_cell_not_the_kernel(kernel: Kernel, shell: str | None, code: str) -> None:
    assert kernel.run(code, shell).ename == "SystemExit"
    assert kernel.value("6 * 7", shell) == 42


# --- payloads, expressions, history -----------------------------------------------------------------------------------


def test_a_question_mark_asks_for_the_pager(shared_kernel: Kernel) -> None:
    payloads = shared_kernel.run("print?").content["payload"]
    assert [payload["source"] for payload in payloads] == ["page"]
    assert "Prints the values" in payloads[0]["data"]["text/plain"]
    assert payloads[0]["start"] == 0


def test_load_and_set_next_input_fill_the_next_cell(shared_kernel: Kernel) -> None:
    (shared_kernel.sandbox.cwd / "loaded.py").write_text("loaded = 1\n")
    payloads = shared_kernel.run("%load loaded.py").content["payload"]
    assert [(p["source"], p["replace"]) for p in payloads] == [("set_next_input", True)]
    assert "loaded = 1" in payloads[0]["text"]
    payloads = shared_kernel.run("get_ipython().set_next_input('next')").content["payload"]
    assert payloads == [{"source": "set_next_input", "text": "next", "replace": False}]
    assert shared_kernel.run("1").content["payload"] == []


def test_exit_asks_the_front_end_to_end_the_session_and_ends_the_kernel(kernel: Kernel) -> None:
    payloads = kernel.run("exit()").content["payload"]
    assert [(p["source"], p["keepkernel"]) for p in payloads] == [("ask_exit", False)]
    assert kernel.what_is_left() == []


def test_user_expressions_are_evaluated_after_the_cell(kernel: Kernel, shell: str | None) -> None:
    result = kernel.run("x = 20", shell, user_expressions={"good": "x + 22", "bad": "1 / 0"})
    expressions = result.content["user_expressions"]
    assert expressions["good"] == {"status": "ok", "data": {"text/plain": "42"}, "metadata": {}}
    assert expressions["bad"]["status"] == "error"
    assert expressions["bad"]["ename"] == "ZeroDivisionError"
    assert kernel.run("1/0", shell, user_expressions={"good": "x"}).content.get("user_expressions", {}) == {}


def test_a_silent_cell_leaves_no_trace_but_its_effects(kernel: Kernel, shell: str | None) -> None:
    before = kernel.run("1", shell).content["execution_count"]
    result = kernel.run("silent = 2; silent", shell, silent=True)
    assert result.status == "ok"
    assert result.of_type("execute_input") == result.of_type("execute_result") == []
    after = kernel.run("silent", shell)
    assert (after.text, after.content["execution_count"]) == ("2", before + 1)
    assert kernel.value("In[-2]", shell) == "silent"


def test_a_cell_without_history_is_not_remembered(kernel: Kernel, shell: str | None) -> None:
    kernel.run("'remembered'", shell)
    result = kernel.run("'forgotten'", shell, store_history=False)
    assert result.text == "'forgotten'"
    assert kernel.value("In[-2]", shell) == "'remembered'"
    tail = {"raw": True, "output": False, "hist_access_type": "tail", "n": 5}
    history = kernel.request("history_request", tail, subshell=shell).content["history"]
    assert "'forgotten'" not in [entry[2] for entry in history]
    kernel.run("outputs = str(getattr(get_ipython().history_manager, 'outputs', ''))", shell)
    assert "forgotten" not in kernel.value("outputs", shell)


def test_an_empty_cell_is_ok(shared_kernel: Kernel) -> None:
    for code in ("", "   \n", "# only a comment"):
        result = shared_kernel.run(code)
        assert (result.status, result.outputs) == ("ok", [])


@needs_ipython_9
def test_the_cell_id_and_metadata_reach_the_shell(shared_kernel: Kernel) -> None:
    code = "get_ipython().events.register('pre_run_cell', lambda info: print(info.cell_id, info.cell_meta.get('tags')))"
    shared_kernel.run(code)
    assert shared_kernel.run("pass", metadata={"cellId": "abc", "tags": ["t"]}).stdout == "abc ['t']\n"
