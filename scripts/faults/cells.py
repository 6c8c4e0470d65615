"""What a cell can do to its process. Each is run in a subshell with five variables, beside another subshell."""

from __future__ import annotations

CELLS = {
    "os._exit(3)": "import os; os._exit(3)",
    "os.abort()": "import os; os.abort()",
    "a NULL pointer is read": "import ctypes; ctypes.string_at(0)",
    "stack overflow in C": (
        "import sys\nsys.setrecursionlimit(10**9)\nx = []\nfor _ in range(10**6): x = [x]\nrepr(x)"
    ),
    "SIGKILL": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "SIGSTOP": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
    "all memory (RLIMIT_AS)": (
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\nx = []\n"
        "while True: x.append(bytearray(1 << 20))"
    ),
    "200 children that sleep": (
        "import os, time\nfor _ in range(200):\n    if os.fork() == 0:\n        time.sleep(1000)\n        os._exit(0)"
    ),
    "fds 0-100 closed": "import os; os.closerange(0, 101)",
    "sys.exit in a thread": (
        "import sys, threading\nt = threading.Thread(target=sys.exit, args=(1,)); t.start(); t.join()"
    ),
    "a thread that never ends": (
        "import threading\nlock = threading.Lock(); lock.acquire()\nthreading.Thread(target=lock.acquire).start()"
    ),
    "every IPython hook raises": (
        "def bad(*_): raise RuntimeError('hook')\nip = get_ipython()\n"
        "for e in ('pre_execute', 'pre_run_cell', 'post_execute', 'post_run_cell'): ip.events.register(e, bad)\n"
        "ip.ast_transformers.append(type('T', (), {'visit': bad})())\nimport sys\nip.display_pub.publish = bad\n"
        "sys.displayhook = sys.excepthook = sys.unraisablehook = bad\nip.set_custom_exc((Exception,), bad)"
    ),
    "each import raises": "import builtins\ndef bad(*_, **__): raise RuntimeError('hook')\nbuiltins.__import__ = bad",
    "an audit hook raises": "import sys\ndef bad(*_): raise RuntimeError('hook')\nsys.addaudithook(bad)",
    "sys.stdout = None": "import sys\nsys.stdout = sys.stderr = None\nprint('nowhere')",
    "SIGINT is ignored": "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
    "SIGINT and SIGTERM are ignored": (
        "import signal\nfor s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, signal.SIG_IGN)\nwhile True: pass"
    ),
    "KeyboardInterrupt is caught": ("while True:\n    try:\n        while True: pass\n    except BaseException: pass"),
    "a __del__ that never ends": ("class D:\n    def __del__(self):\n        while True: pass\nd = D()\ndel d"),
    "builtins are replaced": (
        "import builtins\n"
        "for n in ('print', 'len', 'isinstance', 'open', 'type', 'getattr'): setattr(builtins, n, None)"
    ),
    "sys.modules is emptied": "import sys\nsys.modules.clear()",
    "the GIL is held in C": "import ctypes\nctypes.PyDLL(None).sleep(1000)",
    "an endless C loop in a regular expression": "import re\nre.match('(a*)*b', 'a' * 60)",
    "all threads' stacks are deep": (
        "import sys, threading\ndef f(): f()\n"
        "t = [threading.Thread(target=f) for _ in range(20)]\n[x.start() for x in t]\n[x.join() for x in t]"
    ),
}
