"""Widgets that one subshell made are used in the others: what they do there happens where the widget lives."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from .driver import Kernel
from .stories import Stories, blocks

needs_widgets = pytest.mark.skipif(find_spec("ipywidgets") is None, reason="needs ipywidgets")
pytestmark = needs_widgets

USES = blocks("""
# its value
A: import ipywidgets as w; slider = w.IntSlider(3)
B? slider.value == 3 and slider.max == 100
B: slider.value = 7; slider.value += 1
A? slider.value == 8
A: slider.value = 20
B? slider.value == 20
B! TraitError: slider.value = "no number"
B! AttributeError: slider.nothing
B? getattr(slider, "nothing", 5) == 5 and not hasattr(slider, "nothing")
B: slider.mine = [1]
A? slider.mine == [1]

# what it is
A: import ipywidgets as w; slider = w.IntSlider(3); slider2 = slider
B? isinstance(slider, w.IntSlider) and isinstance(slider, w.Widget) and not isinstance(slider, w.Text)
B? slider == slider2 and slider in [slider2] and slider != w.IntSlider() and {slider: 1}[slider2] == 1
B? "value" in dir(slider) and slider.has_trait("value") and slider.get_state("value") == {"value": 3}

# widgets that it has
A: import ipywidgets as w; slider = w.IntSlider(3); box = w.VBox([slider])
B: slider.layout.width = "50%"; box.children[0].value = 5
A? slider.layout.width == "50%" and slider.value == 5
B? len(box.children) == 1 and box.children[0] == slider and box.children[0].value == 5
B: box.children += (w.Label("made in B"),)
A? len(box.children) == 2 and box.children[1].value == "made in B"
B: box.children[1].value = "changed"
A? box.children[1].value == "changed"

# in a box of another subshell
A: import ipywidgets as w; slider = w.IntSlider(3)
B: box = w.HBox([slider, w.Text("x")])
A? box.children[0] is slider and box.children[1].value == "x"

# progress
A: import ipywidgets as w; bar = w.IntProgress(0, 0, 10); label = w.Label()
B: for n in range(11): bar.value = n; label.value = f"{n} of 10"
   bar.bar_style = "success"
A? (bar.value, label.value, bar.bar_style) == (10, "10 of 10", "success")

# a callback of the subshell that made it
A: import ipywidgets as w; slider = w.IntSlider(1); log = []; factor = 1
   slider.observe(lambda change: log.append(factor * change.new), "value")
B: factor = 5
B: slider.value = 2
B? log == [10]
A? log == [10]

# a callback of another one
A: import ipywidgets as w; button = w.Button(description="go"); slider = w.IntSlider(); log = []
B: def on_click(button): log.append(button.description)
   def on_move(change): log.append(change.new)
   button.on_click(on_click); slider.observe(on_move, "value")
A: button.click(); slider.value = 5
A? log == ["go", 5]
B: slider.unobserve(on_move, "value"); slider.value = 6; button.click()
B? log == ["go", 5, "go"]

# linked with one of another subshell
A: import ipywidgets as w; slider = w.IntSlider(3)
B: text = w.IntText(0); link = w.link((slider, "value"), (text, "value"))
B? text.value == 3
A: slider.value = 8
B? text.value == 8
B: text.value = 9
A? slider.value == 9

# of a class of the notebook
A: import ipywidgets as w
   class Trace:
       def __init__(self): self.y = [1]
   class Figure(w.VBox):
       def __init__(self): super().__init__(); self.data = (Trace(), Trace()); self.count = 0
       def update(self, n): self.count += n; return self
   figure = Figure()
B: figure.data[0].y = [5, 6]; trace = figure.data[1]; trace.name = "second"
A? figure.data[0].y == [5, 6] and trace.name == "second" and trace is figure.data[1]
B? figure.update(3).count == 3 and isinstance(figure, Figure) and isinstance(trace, Trace)

# in an instance
A: import ipywidgets as w
   class App:
       def __init__(self):
           self.button, self.count = w.Button(description="go"), 0
           self.button.on_click(self.click)
       def click(self, _): self.count += 1
   app = App()
B: app.button.click(); app.button.description = "again"
B? app.count == 1
A? app.count == 1 and app.button.description == "again"

# from a thread and a task
A: import ipywidgets as w; bar = w.IntProgress()
B: import threading, asyncio
   def work():
       for n in range(5): bar.value = n
   thread = threading.Thread(target=work); thread.start(); thread.join()
   async def go():
       bar.value += 1
   await go()
A? bar.value == 5
""")


@pytest.mark.parametrize("text", USES.values(), ids=USES)
def test_a_widget_is_used_in_another_subshell(story: Stories, text: str) -> None:
    story(text)


def test_what_a_cell_does_to_a_widget_of_another_subshell_is_its_own_message(kernel: Kernel) -> None:
    """As programs that execute notebooks look at the messages of the cell only."""
    child = kernel.create_subshell()
    kernel.run("import ipywidgets as w; slider = w.IntSlider(); slider.observe(lambda _: print('moved'), 'value')")
    result = kernel.run("slider.value = 5; print('done')", child)
    updates = [m.content["data"]["state"] for m in result.messages if m.type == "comm_msg"]
    assert updates == [{"value": 5}]
    assert result.stdout == "moved\ndone\n"


def test_a_widget_is_shown_by_another_subshell(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    kernel.run("import ipywidgets as w; slider = w.IntSlider(3)")
    model = kernel.value("slider.model_id")
    for code in ("slider", "display(slider)"):
        (shown,) = [m.content["data"] for m in kernel.run(code, child).messages if "data" in m.content]
        assert shown["text/plain"] == "IntSlider(value=3)"
        assert shown["application/vnd.jupyter.widget-view+json"]["model_id"] == model


def test_an_output_widget_takes_what_cells_of_other_subshells_put_out(kernel: Kernel) -> None:
    """The page is told which cell's output it is to take, before that is put out."""
    child = kernel.create_subshell()
    kernel.run("import ipywidgets as w; out = w.Output()")
    codes = {
        "with out: print('in it')": ["in it\n"],
        "@out.capture()\ndef f(): print('captured')\nf()": ["captured\n"],
        "with out: 1 / 0": ["ZeroDivisionError"],
        "out.clear_output()": ["clear"],
    }
    for code, expected in codes.items():
        result = kernel.run(code, child)
        assert result.status == "ok", result.traceback
        header = result.messages[0].parent["msg_id"]
        told: list[str] = []
        for message in result.messages:
            if message.type == "comm_msg" and "msg_id" in message.content["data"]["state"]:
                told.append(message.content["data"]["state"]["msg_id"])
            elif message.type in ("stream", "error", "clear_output"):
                told.append(message.content.get("text") or message.content.get("ename") or "clear")
        assert told == [header, *expected, ""]
    kernel.run("out.append_stdout('x'); out.append_display_data(w.HTML('y'))", child)
    outputs = kernel.value("[o['output_type'] for o in out.outputs]", child)
    assert outputs == ["stream", "display_data"]


@pytest.mark.mpkernel_only("what is sent there waits for the subshell")
def test_a_widget_of_a_subshell_that_computes_is_used_meanwhile(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    kernel.run("import ipywidgets as w; slider = w.IntSlider(3)")
    cell = kernel.start("print('ready', flush=True)\nwhile slider.value != 9: pass")
    assert kernel.value("slider.value", child) == 3
    kernel.run("slider.value = 9", child)
    assert cell.wait().status == "ok"


@pytest.mark.mpkernel_only("a process has ended")
def test_a_widget_whose_process_has_ended_says_so(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    kernel.run("import ipywidgets as w; slider = w.IntSlider(3)", child)
    assert kernel.value("slider.value") == 3
    kernel.run("import os; os._exit(1)", child)
    result = kernel.run("slider.value = 5")
    assert "make it again" in str(result.content["evalue"])


@pytest.mark.mpkernel_only("processes")
def test_what_a_widget_cant_do_from_afar_says_where_it_lives(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    kernel.run("import ipywidgets as w; slider = w.IntSlider(3)")
    for code in ("list(slider)", "del slider.value", "__import__('copy').copy(slider)"):
        result = kernel.run(code, child)
        assert result.ename == "LivesElsewhere", code
        assert "lives in subshell 'main'" in str(result.content["evalue"])


def test_the_attributes_of_a_widget_of_another_subshell_are_completed(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    kernel.run("import ipywidgets as w; slider = w.IntSlider(3)")
    kernel.run("pass", child)
    request = {"code": "slider.desc", "cursor_pos": 11}
    assert "description" in kernel.request("complete_request", request, subshell=child).content["matches"]
