"""What can't be pickled, or misbehaves when it is, never fails or slows a cell; others see where it lives."""

from __future__ import annotations

import textwrap
import time

import pytest

from .driver import Kernel
from .sandbox import PATIENCE
from .stories import Stories, blocks

THREADS = "threads share every object"
AT_ONCE = 8.0 * PATIENCE  # seconds within which a cell must end, whatever its objects do when they are pickled

UNPICKLABLE = {
    "generator": ("(n for n in range(5))", "next(thing) == 0", "next(thing)"),
    "rows": ("map(list, zip(n for n in range(5)))", "next(thing) == [0]", "next(thing)"),
    "matches": ("__import__('re').finditer('.', 'ab')", "next(thing)[0] == 'a'", "next(thing)"),
    "event": ("__import__('threading').Event()", "thing.set() is None", "thing.set()"),
    "file": ("open('a-file.txt', 'w+')", "thing.write('x') == 1", "thing.write('x')"),
    "socket": ("__import__('socket').socket()", "thing.fileno() > 0", "thing.fileno()"),
    "database": (
        "__import__('sqlite3').connect(':memory:')",
        "thing.execute('select 1').fetchone() == (1,)",
        "thing.execute('select 1')",
    ),
    "thread": ("__import__('threading').Thread(target=print)", "thing.daemon in (True, False)", "thing.start()"),
    "queue": ("__import__('queue').Queue()", "thing.empty()", "thing.get_nowait()"),
    "process": ("__import__('subprocess').Popen(['true'])", "thing.wait() == 0", "thing.wait()"),
    "coroutine": ("(lambda: __import__('asyncio').sleep(0))()", "thing.close() is None", "thing.close()"),
    "frame": ("__import__('sys')._getframe()", "thing.f_lineno > 0", "thing.f_lineno"),
    "memoryview": ("memoryview(b'abc')", "thing[0] == 97", "thing[0]"),
}


@pytest.mark.parametrize(("make", "works", "use"), UNPICKLABLE.values(), ids=UNPICKLABLE)
def test_the_owner_uses_it_and_the_container_is_shared(story: Stories, make: str, works: str, use: str) -> None:
    """Others see all of the container; what they do to it doesn't hurt the owner's object."""
    story(f"""
        A: thing = {make}
           box = {{"it": thing, "n": [1]}}; row = [thing, 2]
        B? box["n"] == [1] and row[1] == 2 and set(box) == {{"it", "n"}} and len(row) == 2
        B: box["n"].append(2); box["more"] = 3; row.append(4); row.insert(0, "front")
        A? box["n"] == [1, 2] and box["more"] == 3 and row[2:] == [2, 4]
        A? box["it"] is thing and row[1] is thing
        A? {works}
        A: del thing, box, row
    """)


# Stand-ins of these pass on what is done with them.
MEETINGS = ("event", "queue")


@pytest.mark.mpkernel_only(THREADS)
@pytest.mark.parametrize(("make", "works", "use"), [case for key, case in UNPICKLABLE.items() if key not in MEETINGS])
def test_a_stub_says_where_it_lives_and_what_to_do(story: Stories, make: str, works: str, use: str) -> None:
    story(f"A: thing = {make}\nB: pass")
    subshell = str(story.subshell("A"))
    shown = story.run("B", "thing")
    assert subshell[:8] in shown.text, f"a stub's repr without its owner: {shown.text}"
    assert "can't be pickled" in shown.text or "can't leave" in shown.text
    result = story.kernel.run(use, story.subshell("B"))
    assert result.ename == "LivesElsewhere", str(result)
    assert subshell[:8] in str(result.content["evalue"])
    assert "mpkernel.remote" in str(result.content["evalue"])
    story(f"A? {works}\nA: del thing\nB! NameError: thing")


EVENTS_AND_QUEUES = blocks("""
# an event set elsewhere
A: import threading; stop = threading.Event()
B? not stop.is_set()
B: stop.set()
A? stop.is_set() and stop.wait(1)
B? stop.wait(1)
B: stop.clear()
A? not stop.is_set()
B? stop.wait(0.05) is False

# a queue between two
A: import queue; q = queue.Queue()
   for i in range(3): q.put(i)
B: got = [q.get(), q.get_nowait(), q.get(timeout=1)]
B? got == [0, 1, 2] and q.empty() and q.qsize() == 0
B! Empty: q.get_nowait()
B! Empty: q.get(timeout=0.05)
B: q.put({'a': [1]}); q.task_done()
A? q.get() == {'a': [1]}

# bounded, priorities, simple
A: import queue; small = queue.Queue(1); p = queue.PriorityQueue(); s = queue.SimpleQueue(); l = queue.LifoQueue()
   small.put(1)
B! Full: small.put(2, timeout=0.05)
B! Full: small.put_nowait(2)
B: p.put(3); p.put(1); s.put('x'); l.put(1); l.put(2)
A? p.get() == 1 and s.get() == 'x' and l.get() == 2
B? p.get() == 3 and l.get() == 1

# an event in an object
A: import threading
   class Job:
       def __init__(self): self.done = threading.Event(); self.n = 0
       def finish(self): self.n += 1; self.done.set()
   job = Job()
B: job.finish()
A? job.done.is_set() and job.n == 1
""")


@pytest.mark.parametrize("text", EVENTS_AND_QUEUES.values(), ids=EVENTS_AND_QUEUES)
def test_events_and_queues_work_in_all_subshells(story: Stories, text: str) -> None:
    story(text)


def test_a_loop_is_ended_by_an_event_of_another_subshell(story: Stories) -> None:
    story("A: import threading; stop = threading.Event(); n = 0\nB: pass")
    loop = story.kernel.start("print('ready', flush=True)\nwhile not stop.wait(0.001): n += 1", story.subshell("A"))
    story.run("B", "stop.set()")
    assert loop.wait().status == "ok"
    story.check("B", "stop.is_set() and n >= 0")


@pytest.mark.parametrize("waiting", ["A", "B"])
def test_one_subshell_waits_for_what_another_puts(story: Stories, waiting: str) -> None:
    """The queue is A's, whose thread must stay free for the cell that puts."""
    story("A: import queue; q = queue.Queue()\nB: pass")
    consumer = story.kernel.start("print('ready', flush=True)\ngot = q.get()", story.subshell(waiting))
    story.run("B" if waiting == "A" else "A", "q.put([1, 'x'])")
    assert consumer.wait().status == "ok"
    story.check("A", "got == [1, 'x'] and q.empty()")


@pytest.mark.mpkernel_only(THREADS)
def test_waiting_for_a_queue_elsewhere_can_be_interrupted(story: Stories) -> None:
    story("A: import queue; q = queue.Queue()\nB: pass")
    waiting = story.kernel.start("print('ready', flush=True)\nq.get()", story.subshell("B"))
    story.kernel.interrupt()
    assert waiting.wait().ename == "KeyboardInterrupt"
    story("A: q.put(1)\nA? q.get(timeout=5) == 1")


@pytest.mark.mpkernel_only(THREADS)
def test_a_stub_whose_process_has_died_says_so(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    kernel.run("import os; gen = (n for n in 'ab')")
    assert "Run the cell in subshell 'main', or use mpkernel.remote('gen')" in kernel.run("next(gen)", child).traceback
    assert kernel.run("os.kill(os.getpid(), 9)").ename == "WorkerDied"
    for subshell in (None, child):
        told = kernel.run("next(gen)", subshell).content["evalue"]
        assert "was in subshell 'main'" in told
        assert told.endswith("That process has ended: make it again")
    kernel.run("import os\nif os.fork() == 0:\n    try: gen.x\n    finally: os._exit(0)\nos.wait()")


@pytest.mark.mpkernel_only(THREADS)
def test_a_stub_that_is_used_by_the_garbage_collector_in_any_thread(story: Stories) -> None:
    """Its advice may ask the broker, whose answer comes to the very thread that a ``__del__`` runs in."""
    story("""
        A: gen = (n for n in 'ab')
        B: import threading
           told, done = [], threading.Event()
           def use():
               try: gen.x
               except Exception as error: told.append(type(error).__name__)
               done.set()
           get_ipython().kernel.lanes.when_sent(use)
        B? done.wait(5) and told == ['LivesElsewhere']
    """)


def test_a_comm_stays_where_it_talks_to_the_page(story: Stories) -> None:
    story("""
        A: import comm; c = comm.create_comm(target_name='nobody'); box = [c, 1]
        B: box.append(2)
        A? box == [c, 1, 2] and c.send({'a': 1}) is None and c.close() is None
    """)


def test_a_generator_goes_on_where_it_was(story: Stories) -> None:
    story("""
        A: gen = (n for n in range(10)); next(gen)
           jobs = {"gen": gen, "log": []}
        B: jobs["log"].append("seen"); copy = dict(jobs)
        A: jobs["log"].append(next(jobs["gen"]))
        B? jobs["log"] == ["seen", 1]
        A? next(gen) == 2 and jobs["gen"] is gen and copy["gen"] is gen
    """)


def test_an_instance_with_a_lock_keeps_it(story: Stories) -> None:
    story("""
        A: import threading
           class Account:
               def __init__(self): self.lock, self.money = threading.Lock(), 0
               def pay(self, n):
                   with self.lock: self.money += n
           account = Account(); account.pay(5); lock = account.lock
        B? account.money == 5 and isinstance(account, Account)
        B: account.money += 1
        A: account.pay(1)
        A? account.money == 7 and account.lock is lock and not lock.locked()
        B? account.money == 7
    """)


def test_what_another_object_is_made_by_is_no_reason_for_a_stub(story: Stories) -> None:
    """One can't be made elsewhere; the others, made by the same function, can."""
    story("""
        A: import os
           class Run:
               def __init__(self, number): self.number = number
               def __reduce__(self): return make, (self.number, os.getpid())
           def make(number, pid):
               if number == 1 and pid != os.getpid(): raise ValueError("not here")
               return Run(number)
           runs = [Run(1), Run(2), Run(3)]
        B? [run.number for run in runs[1:]] == [2, 3]
    """)


def test_a_closure_over_an_open_file(story: Stories) -> None:
    story("""
        A: def logger(file):
               lines = []
               def log(line):
                   lines.append(line); file.write(line)
                   return len(lines)
               return log
           log = logger(open("log.txt", "w")); other = 1
        A? log("a") == 1
        B? other == 1
        B: other = 2
        A? log("b") == 2 and other == 2
    """)


TWINS = blocks("""
# a pool of threads
A: from concurrent.futures import ThreadPoolExecutor
   class Job:
       def __init__(self): self.pool, self.done = ThreadPoolExecutor(2), []
       def run(self, n): return self.pool.submit(self.work, n).result()
       def work(self, n): self.done.append(n); return n * 2
   pool, job = ThreadPoolExecutor(2), Job()
B? list(pool.map(str, range(3))) == ["0", "1", "2"] and job.run(4) == 8
A? job.done == [4] and job.run(5) == 10
A: pool.shutdown(); closed = pool; job.pool.shutdown()
C! RuntimeError: closed.submit(print)

# a process that has ended
A: import subprocess; process = subprocess.Popen(["echo", "hi"], stdout=subprocess.PIPE, text=True)
   said = process.communicate()[0]
B? (process.returncode, process.poll(), process.wait(), process.args, said) == (0, 0, 0, ["echo", "hi"], "hi\\n")

# a thread that has ended
A: import threading; thread = threading.Thread(target=print, name="worker"); thread.start(); thread.join()
B? thread.name == "worker" and not thread.is_alive() and thread.join() is None
B! RuntimeError: thread.start()

# a file that is closed
A: with open("mpt_closed.txt", "w") as text: text.write("x")
   binary = open("mpt_closed.txt", "rb", 0); binary.close()
B? text.closed and (text.name, text.mode) == ("mpt_closed.txt", "w") and (binary.name, binary.mode) == (text.name, "rb")
B! ValueError: text.read()
A: opened = open("mpt_closed.txt")
B: pass
A: opened.close()
B? opened.closed

# rows of a database
A: import sqlite3; database = sqlite3.connect(":memory:"); database.row_factory = sqlite3.Row
   rows = database.execute("select 1 as a, 'x' as \\"b c\\", null, 2.5 as f, x'00ff' as blob").fetchall()
B? [dict(row) for row in rows] == [{"a": 1, "b c": "x", "null": None, "f": 2.5, "blob": bytes([0, 255])}]
B? rows[0][1] == "x" and type(rows[0]) is sqlite3.Row and rows[0].keys()[0] == "a"

# a temporary folder
A: import os, tempfile; folder = tempfile.TemporaryDirectory(); name = folder.name
B: with open(os.path.join(folder.name, "file"), "w") as file: file.write("x")
A? os.listdir(name) == ["file"]
B: folder.cleanup()
A? not os.path.exists(name)
A: folder = tempfile.TemporaryDirectory(); name = folder.name
B: with folder as entered: there = os.path.isdir(entered)
A? there and not os.path.exists(name)
""")


@pytest.mark.parametrize("text", TWINS.values(), ids=TWINS)
def test_what_each_process_has_one_of(story: Stories, text: str) -> None:
    story(text)


@pytest.mark.mpkernel_only(THREADS)
def test_an_unpicklable_name_is_told_once(story: Stories) -> None:
    """No output at all of a cell that makes one."""
    result = story.run("A", "gen = (n for n in 'ab')")
    assert result.stderr == ""
    assert story.run("A", "pass").stderr == ""
    assert story.run("B", "1").stderr == ""


HOSTILE = blocks("""
# __reduce__ raises
def __reduce__(self): raise ValueError('no')

# __reduce__ exits
def __reduce__(self): raise SystemExit

# __reduce__ interrupts
def __reduce__(self): raise KeyboardInterrupt

# __reduce__ gives nonsense
def __reduce__(self): return 5

# __getstate__ raises
def __getstate__(self): raise RuntimeError('no')

# __setstate__ raises
def __getstate__(self): return {'a': 1}
def __setstate__(self, s): raise RuntimeError('no')

# __eq__ raises
def __eq__(self, o): raise RuntimeError('no')
__hash__ = object.__hash__

# __eq__ gives an array
def __eq__(self, o): return [True, False]
__hash__ = object.__hash__

# __bool__ raises
def __bool__(self): raise RuntimeError('no')

# __len__ lies
def __len__(self): raise RuntimeError('no')

# __hash__ raises
def __hash__(self): raise RuntimeError('no')

# __repr__ raises
def __repr__(self): raise RuntimeError('no')

# __getattr__ raises
def __getattr__(self, n): raise RuntimeError('no')

# __getattr__ has everything
def __getattr__(self, n): return lambda *a, **k: self

# __getattribute__ raises
def __getattribute__(self, n): raise RuntimeError('no')

# __del__ raises
def __del__(self): raise RuntimeError('no')

# __class__ lies
@property
def __class__(self): return dict

# __dict__ raises
@property
def __dict__(self): raise RuntimeError('no')

# __sizeof__ raises
def __sizeof__(self): raise RuntimeError('no')

# __init__ wants arguments
def __init__(self, *, must=5): assert must == 5

# __new__ wants arguments
def __new__(cls, must=None):
    return super().__new__(cls)

# __slots__ unset
__slots__ = ('never',)

# nbytes raises
@property
def nbytes(self): raise RuntimeError('no')

# __array__ raises
def __array__(self, *a, **k): raise RuntimeError('no')
""")


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_a_bad_object_harms_nobody(story: Stories, body: str) -> None:
    """Not its cell, not the names beside it, not the container it is in."""
    story("B: pass")
    making = f"class Bad:\n{textwrap.indent(body, '    ')}\nbad = Bad(); box = [bad, 1]; n = 1"
    made = story.run("A", making, timeout=AT_ONCE)
    assert made.stderr.count("\n") <= 1, f"more than a line about it: {made.stderr}"
    story("""
        B? n == 1 and box[1] == 1 and len(box) == 2
        B: box.append(2); n = 2
        A? n == 2 and box[1:] == [1, 2] and box[0] is bad
        B: box = None
        A: del bad, box, Bad
        B? n == 2
    """)


SLOW = blocks("""
# deep list
x = []
for _ in range(100_000): x = [x]

# deep dict
x = {}
for _ in range(100_000): x = {'k': x}

# linked list
class Node: pass
x = None
for _ in range(100_000):
    node = Node(); node.next = x; x = node
del node

# endless reduce
class Bad:
    def __reduce__(self): return Bad, (Bad(),)
x = Bad()

# goes on and on
from fractions import Fraction
class Bad:
    def __reduce__(self): return Bad, (), None, self.items()
    def items(self):
        while True: yield Fraction(1, 3)
x = Bad()

# recursion in __reduce__
class Bad:
    def __reduce__(self): return self.__reduce__()
x = Bad()

# sleeps
import time
class Bad:
    def __reduce__(self):
        time.sleep(60)
        return Bad, ()
x = Bad()

# computes
class Bad:
    def __reduce__(self):
        while True: pass
x = Bad()

# catches all
class Bad:
    def __reduce__(self):
        while True:
            try:
                sum(range(10**6))
            except Exception: pass
x = Bad()

# runs a cell
class Bad:
    def __reduce__(self):
        get_ipython().run_cell('ran = 1')
        return Bad, ()
x = Bad()

# changes names
class Bad:
    def __reduce__(self):
        globals()['made_by_reduce'] = x
        return Bad, ()
x = Bad()

# slow to load
import time
def load():
    time.sleep(60)
class Bad:
    def __reduce__(self): return load, ()
x = Bad()

# slow to load by a library
import time
class Bad:
    def __reduce__(self): return time.sleep, (60,)
x = Bad()

# starts a thread
import threading
class Bad:
    def __reduce__(self):
        threading.Thread(target=print).start()
        return Bad, ()
x = Bad()
""")


@pytest.mark.parametrize("code", SLOW.values(), ids=SLOW)
def test_no_cell_waits_for_a_bad_pickle(story: Stories, code: str) -> None:
    story("B: pass")
    began = time.monotonic()
    story.run("A", f"{code}\nn = 1")
    took = time.monotonic() - began
    assert took < AT_ONCE, f"the cell that made it took {took:.1f} s"
    for number in range(2, 4):
        began = time.monotonic()
        story.check("B", f"n == {number - 1}")
        story.run("A", f"n = {number}")
        took = time.monotonic() - began
        assert took < AT_ONCE, f"a cell beside it took {took:.1f} s"
    story("B? n == 3\nA? 'x' in globals()")
    story.run("A", "node = x\nwhile isinstance(node, list) and node: node = node.pop()\nx = node = None")


def test_a_list_100_000_deep_is_the_same_elsewhere_or_a_stub(story: Stories) -> None:
    """No process dies of it, and the owner's is whole."""
    story("B: pass")
    story.run("A", "x = []; n = 1\nfor _ in range(100_000): x = [x]")
    story.kernel.run("x", story.subshell("B"), silent=True)
    story("B? n == 1")
    story.run("A", "depth = 0\nwhile x: x = x[0]; depth += 1")
    story.check("A", "depth == 100_000")
