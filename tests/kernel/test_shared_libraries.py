"""What is bound from a library in one subshell doesn't have the others import it: that takes seconds, and memory.

Each story has a library of its own in the kernel's folder. A cell that gives the name of a variable away, even in a
text, has it; so what is to be without it looks for modules by parts of their names.
"""

from __future__ import annotations

import pytest

from .driver import Kernel
from .stories import SOON, Stories, blocks, needs_numpy

LIBRARY = r"""
A: text = '''
   import numbers
   class LibWarning(UserWarning): pass
   class Frame:
       def __init__(self, size): self.size = size
   def size_of(frame): return frame.size
   ''' ; import os, sys, importlib
   os.makedirs("mpt_%(name)s"); _ = open("mpt_%(name)s/__init__.py", "w").write(text)
   _ = open("mpt_%(name)s/within.py", "w").write("value = 5")
   _ = open("mpt_unseen.py", "w").write("import sys\ndef there(name): return name in sys._getframe(1).f_globals")
   importlib.invalidate_caches()
   import mpt_unseen
   def imported(): return any(name.endswith("%(name)s") for name in sys.modules)
"""

STORIES = blocks(
    r"""
# who does not use it does not import it, who uses it does
A: import mpt_lib as lib; frame, both = lib.Frame(3), [lib.Frame(4)]; number = 1
B? number == 1 and not imported()
B? frame.size == 3 and imported()
B? lib.size_of(both[0]) == 4 and type(both[0]) is lib.Frame

# functions and classes that need it
A: import mpt_lib as lib
   class Own(lib.Frame):
       pass
   own = Own(3)
   frame = lib.Frame(4)
   def both(): return own.size + frame.size
B? not imported()
B? both() == 7 and isinstance(own, lib.Frame)
B: own.size = 8
A? both() == 12 and type(own) is Own

# what else needs it is there as soon as it has been imported
A: import mpt_lib as lib; frame, other = lib.Frame(3), lib.Frame(4)
B? not imported() and not mpt_unseen.there("".join(["oth", "er"]))
B? frame.size == 3
B? mpt_unseen.there("".join(["oth", "er"]))

# variables that are called as magics are
A: import mpt_lib as lib; config = {"a": lib.Frame(3)}; history = [lib.Frame(5)]
B? config["a"].size == 3
B? history[-1].size == 5

# named in a text
A: import mpt_lib as lib; frame = lib.Frame(3)
   def size_of_named(text): return sys._getframe(1).f_globals[text.split()[-1]].size
B? size_of_named("size of frame") == 3

# named in a text in a variable
A: import mpt_lib as lib; frame = lib.Frame(3); texts = {"one": "size of frame"}
B? "size" in texts["one"] and mpt_unseen.there("".join(["fra", "me"]))

# a function named in a text
A: import mpt_lib as lib; frame = lib.Frame(3)
   def size(): return lib.size_of(frame)
B: import timeit, __main__ as names; seconds = timeit.timeit("size()", globals=vars(names), number=1)

# annotations
A: import mpt_lib as lib, typing
   def size(frame: "lib.Frame") -> "lib.Frame": pass
   class Two: first: "lib.Frame"
B: import typing
B? [kind.__name__ for kind in typing.get_type_hints(size).values()] == ["Frame", "Frame"]
C? typing.get_type_hints(Two)["first"].__name__ == "Frame"

# who imports it may use the names that need it in any way
A: import mpt_lib as lib; frame = lib.Frame(3)
B: import mpt_lib
B? mpt_unseen.there("".join(["fra", "me"]))

# by a frame
A: import mpt_lib as lib; frame = lib.Frame(3)
B? sys._getframe().f_globals["".join(["fra", "me"])].size == 3

# by an attribute of the module __main__
A: import mpt_lib as lib; frame = lib.Frame(3)
   class Own(lib.Frame):
       def doubled(self): return lib.size_of(self) * frame.size
   import operator, pickle; pickled = pickle.dumps(Own(2))
B? not imported() and pickle.loads(pickled).doubled() == 6
C? operator.attrgetter("".join(["fra", "me"]))(sys.modules["__main__"]).size == 3
C? not hasattr(sys.modules["__main__"], "gone")

# needed in order to be loaded
A: import mpt_lib as lib
   class Key:
       def __hash__(self): return lib.Frame(3).size
       def __eq__(self, other): return type(other) is Key
   table, key = {Key(): "found"}, Key()
B? table[key] == "found"

# many libraries, each needed by what another one had
A: import mpt_lib; names = [f"mpt_lib_{i}" for i in range(6)]
   for name in names: _ = open(name + ".py", "w").write("class Kind: pass")
   importlib.invalidate_caches(); kinds = [importlib.import_module(name).Kind for name in names]
   def f5(kind=kinds[5]()): return 5
   def f4(kind=kinds[4]()): return f5()
   def f3(kind=kinds[3]()): return f4()
   def f2(kind=kinds[2]()): return f3()
   def f1(kind=kinds[1]()): return f2()
   def f0(kind=kinds[0]()): return f1()
B? f0() == 5

# all names
A: import mpt_lib as lib; frame = lib.Frame(3)
B? "frame" in dir() and "frame" in globals()

# what is changed where it is used
A: import mpt_lib as lib; frame = lib.Frame(3)
B: frame.size += 1
A: frame.size += 1
C? not imported()
C? frame.size == 5

# another value for a name that was not had
A: import mpt_lib as lib; frame, gone = lib.Frame(3), lib.Frame(4)
B? not imported()
B: frame = 5; del gone
A? frame == 5 and "gone" not in globals()

# what something else holds is brought up to date
A: import mpt_lib as lib; frames = []
B: sys._mpt_keeper = [frames]
A: frames.append(lib.Frame(3))
B? len(sys._mpt_keeper[0]) == 1
B: del sys._mpt_keeper

# a newer value that needs no library
A: import mpt_lib as lib; frame = lib.Frame(3)
B? not imported()
A: frame = 7
B? frame == 7 and not imported()

# a module within it
A: import mpt_lib.within
B? not imported()
B: import mpt_lib
B? mpt_lib.within.value == 5

# a thread that goes on
A: found = []
B: import threading, time
   def look():
       while not found:
           if any(name.startswith("fra") for name in list(globals())): found.append(1)
           time.sleep(0.01)
   thread = threading.Thread(target=look); thread.start()
A: import mpt_lib as lib; frame = lib.Frame(3)
B: thread.join(SOON)
B? found == [1]

# a hook
A: seen = []; kept = []
B: def hook(*_): seen.append([name for name in list(globals()) if name.startswith("fra")])
   get_ipython().events.register("pre_run_cell", hook)
A: import mpt_lib as lib; frame = lib.Frame(3)
B: kept = seen[-1]; get_ipython().events.unregister("pre_run_cell", hook)
B? kept == ["frame"]

# what is called from elsewhere than a cell
B: import functools, signal
   seen = []
   def hook(tag, *_): seen.append(size())
   def size(): return 0
   hooks = [functools.partial(hook, "cell")]
   get_ipython().events.register("pre_run_cell", hooks[0]); old = signal.signal(signal.SIGUSR2, hook)
A: import mpt_lib as lib; frame = lib.Frame(3)
   def size(): return frame.size
B: get_ipython().events.unregister("pre_run_cell", hooks[0])
B? seen[-1] == 3
A: def size(): return frame.size + lib.size_of(frame)
C: import mpt_lib as other; lib = other
B: signal.raise_signal(signal.SIGUSR2)
B? seen[-1] == 6
B: signal.signal(signal.SIGUSR2, old)

# how its values are shown
A: import mpt_lib as lib; frame = lib.Frame(3)
   def shown(frame, printer, cycle): printer.text("a frame")
   old = get_ipython().display_formatter.formatters["text/plain"].for_type(lib.Frame, shown)
B? not imported()
B? frame.size == 3
B? get_ipython().display_formatter.formatters["text/plain"](frame) == "a frame"
A: get_ipython().display_formatter.formatters["text/plain"].pop(lib.Frame)

# a filter for its warnings
A: import mpt_lib as lib, warnings; warnings.filterwarnings("error", category=lib.LibWarning)
B: warnings.filterwarnings("ignore", message="mpt of B")
B? not imported()
A? sum(each[1] is not None and each[1].match("mpt of B") is not None for each in warnings.filters) == 1
B: import warnings
B! LibWarning: warnings.warn("told as an error", lib.LibWarning)
A! LibWarning: warnings.warn("told as an error", lib.LibWarning)
A: warnings.filters[:] = [each for each in warnings.filters if "mpt" not in str(each)]; warnings._filters_mutated()
""".replace("SOON", str(SOON))
)


@pytest.mark.parametrize("title", STORIES)
def test_a_library_is_imported_where_it_is_used(story: Stories, title: str) -> None:
    name = f"lib{list(STORIES).index(title)}"
    story(LIBRARY % {"name": name} + STORIES[title].replace("mpt_lib", f"mpt_{name}"))


def test_what_is_to_be_shown_beside_a_cell_is_had(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    kernel.run("pass", child)
    kernel.run("_ = open('mpt_shown.py', 'w').write('class Frame: size = 3'); import mpt_shown")
    kernel.run("frame = mpt_shown.Frame()\ndef size(): return frame.size")
    shown = kernel.run("", child, user_expressions={"size": "size()"}).reply.content["user_expressions"]
    assert shown["size"]["data"]["text/plain"] == "3"


@needs_numpy
@pytest.mark.parametrize("imported", ["np.random.seed(0)", "seed(); del np"])
def test_a_stream_goes_on_in_a_cell_that_imports_its_library(story: Stories, imported: str) -> None:
    story(f"""
    M: import numpy as np
       def seed(): np.random.seed(0)
       {imported}
    B: import numpy
       drawn = float(numpy.random.rand())
    M? round(drawn, 4) == 0.5488
    """)


@pytest.mark.parametrize(
    ("request_type", "wanted"), [("complete_request", "'size'"), ("inspect_request", "A number of rows")]
)
def test_what_is_looked_at_is_had(kernel: Kernel, request_type: str, wanted: str) -> None:
    child = kernel.create_subshell()
    kernel.run("import sys", child)
    text = "class Frame:\n    'A number of rows.'\n    size = 3"
    kernel.run(
        f"_ = open('mpt_looked_at.py', 'w').write({text!r}); import mpt_looked_at; frame = mpt_looked_at.Frame()"
    )
    assert kernel.value("[name for name in sys.modules if 'looked' in name]", child) == []
    content = {"code": "frame.si", "cursor_pos": 8 if request_type == "complete_request" else 3, "detail_level": 0}
    assert wanted in str(kernel.request(request_type, content, subshell=child).content)


def test_what_comes_with_a_pull_is_had_if_the_cell_names_it(kernel: Kernel) -> None:
    """Else it would be overwritten by what the cell makes of the older value."""
    child = kernel.create_subshell()
    kernel.run("xs, go = [1], False")
    growing = kernel.start("import mpkernel\nprint('ready')\nwhile not go: mpkernel.pull('go')\nxs = [*xs, 3]", child)
    kernel.run("_ = open('mpt_pulled.py', 'w').write('class Frame: size = 2'); import mpt_pulled")
    kernel.run("xs = [1, mpt_pulled.Frame()]")
    kernel.run("go = True")
    assert growing.wait().status == "ok"
    assert kernel.value("[getattr(x, 'size', x) for x in xs]") == [1, 2, 3]
