"""The event loop of a shell lives between cells, and a cell may await on it."""

from __future__ import annotations

import pytest

from .driver import KERNEL, Kernel

LOST_CONTEXT = "context variables are lost between cells"


def test_a_cell_may_await(kernel: Kernel, shell: str | None) -> None:
    code = (
        "import asyncio\nasync def double(n):\n    await asyncio.sleep(0)\n    return 2 * n\n"
        "await asyncio.gather(double(1), double(2))"
    )
    assert kernel.value(code, shell) == [2, 4]
    assert kernel.value("await double(21)", shell) == 42
    assert kernel.run("async with asyncio.timeout(0.01): await asyncio.sleep(10)", shell).ename == "TimeoutError"


def test_the_loop_is_the_same_in_all_cells_and_runs_in_each(kernel: Kernel, shell: str | None) -> None:
    kernel.run("import asyncio; loop = asyncio.get_running_loop(); loop is not None", shell)
    assert kernel.value("asyncio.get_running_loop() is loop", shell) is True
    assert kernel.value("asyncio.get_event_loop() is loop", shell) is True
    kernel.run("await asyncio.sleep(0)", shell)
    assert kernel.value("asyncio.get_running_loop() is loop", shell) is True


def test_a_task_goes_on_between_cells(kernel: Kernel, shell: str | None) -> None:
    code = (
        "import asyncio\nasync def tick():\n    for n in range(5):\n        print('tick', n, flush=True)\n"
        "        await asyncio.sleep(0.01)\ntask = asyncio.create_task(tick())"
    )
    starting = kernel.submit(code, shell)
    starting.wait()
    starting.wait_for_stream("tick 4")
    assert kernel.run("await task; task.done()", shell).text == "True"


def test_a_task_prints_under_the_cell_that_started_it(kernel: Kernel, shell: str | None) -> None:
    code = (
        "import asyncio\ngo = asyncio.Event()\nasync def late():\n    await go.wait()\n    print('late', flush=True)\n"
    )
    starting = kernel.submit(code + "task = asyncio.create_task(late())", shell)
    starting.wait()
    assert kernel.run("go.set()\nawait task\nprint('later')", shell).stdout == "later\n"
    starting.wait_for_stream("late")


def test_callbacks_and_threads_wake_the_loop_between_cells(kernel: Kernel, shell: str | None) -> None:
    code = (
        "import asyncio, threading\nloop = asyncio.get_running_loop()\n"
        "h = loop.call_later(0.01, lambda: print('called', flush=True))\n"
        "def work(): loop.call_soon_threadsafe(lambda: print('woken', flush=True))\n"
        "t = threading.Timer(0.01, work); t.start()"
    )
    pending = kernel.submit(code, shell)
    pending.wait()
    pending.wait_for_stream("called")
    pending.wait_for_stream("woken")


def test_a_failing_callback_or_task_harms_nothing(kernel: Kernel, shell: str | None) -> None:
    code = (
        "import asyncio\nasync def fail(): raise ValueError('in the task')\ntask = asyncio.create_task(fail())\n"
        "h = asyncio.get_running_loop().call_soon(lambda: 1 / 0)"
    )
    assert kernel.run(code, shell).status == "ok"
    assert kernel.run("await task", shell).ename == "ValueError"
    assert kernel.value("6 * 7", shell) == 42


@pytest.mark.parametrize("cancel", ["asyncio.current_task().cancel()", "[t.cancel() for t in asyncio.all_tasks()]"])
def test_a_cell_that_cancels_its_own_task_has_only_done_that(kernel: Kernel, shell: str | None, cancel: str) -> None:
    pid = kernel.value("__import__('os').getpid()", shell)
    assert kernel.run(f"import asyncio, os; mine = 1; cancelled = {cancel}", shell).status == "ok"
    for _ in range(2):
        assert kernel.value("mine, os.getpid()", shell) == (1, pid)


def test_a_task_factory_that_takes_no_context_is_for_the_users_tasks(kernel: Kernel, shell: str | None) -> None:
    if KERNEL == "ipykernel":
        pytest.skip("it answers no request any more")
    factory = "lambda loop, coroutine: asyncio.Task(coroutine, loop=loop)"
    kernel.run(f"import asyncio; asyncio.get_running_loop().set_task_factory({factory})", shell)
    assert kernel.run("await asyncio.create_task(asyncio.sleep(0, 'slept'))", shell).text == "'slept'"


def test_a_future_set_by_a_thread_ends_an_await(kernel: Kernel, shell: str | None) -> None:
    code = (
        "import asyncio, threading\nloop = asyncio.get_running_loop(); future = loop.create_future()\n"
        "t = threading.Thread(target=lambda: loop.call_soon_threadsafe(future.set_result, 42)); t.start()\n"
        "await future"
    )
    assert kernel.value(code, shell) == 42


def test_to_thread_and_subprocesses_can_be_awaited(kernel: Kernel, shell: str | None) -> None:
    assert kernel.value("import asyncio\nawait asyncio.to_thread(lambda: 42)", shell) == 42
    code = (
        "p = await asyncio.create_subprocess_exec('echo', 'hi', stdout=asyncio.subprocess.PIPE)\n"
        "(await p.communicate())[0]"
    )
    assert kernel.value(code, shell) == b"hi\n"


@pytest.mark.mpkernel_only(LOST_CONTEXT)
def test_context_variables_persist_across_cells(kernel: Kernel, shell: str | None) -> None:
    kernel.run(
        "import contextvars; var = contextvars.ContextVar('var', default='unset'); token = var.set('set')", shell
    )
    assert kernel.value("var.get()", shell) == "set"
    kernel.run("import asyncio; await asyncio.sleep(0); token = var.set('in an await')", shell)
    assert kernel.value("var.get()", shell) == "in an await"
    assert kernel.value("await asyncio.sleep(0, var.get())", shell) == "in an await"


def test_a_library_s_context_setting_persists(kernel: Kernel) -> None:
    kernel.run("import decimal; decimal.getcontext().prec = 5")
    assert kernel.value("str(decimal.Decimal(1) / 3)") == "0.33333"


def test_a_cell_may_run_under_trio(kernel: Kernel, shell: str | None) -> None:
    kernel.run("%autoawait trio", shell)
    assert kernel.value("import trio\nawait trio.sleep(0)\ntrio.lowlevel.current_task() is not None", shell) is True
    assert kernel.run("await trio.sleep(0); raise ValueError('in trio')", shell).ename == "ValueError"
    kernel.run("%autoawait asyncio", shell)
    assert kernel.value("import asyncio; await asyncio.sleep(0, 42)", shell) == 42


def test_autoawait_can_be_switched_off(kernel: Kernel, shell: str | None) -> None:
    kernel.run("%autoawait False", shell)
    assert kernel.run("import asyncio\nawait asyncio.sleep(0)", shell).ename == "SyntaxError"
    kernel.run("%autoawait True", shell)
    assert kernel.value("await asyncio.sleep(0, 42)", shell) == 42


def test_cells_of_a_subshell_await_while_main_computes(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    kernel.run("import asyncio", child)
    gate = kernel.gate("gate")
    computing = kernel.submit(gate.pass_through)
    assert kernel.value("await asyncio.sleep(0.01, 42)", child) == 42
    gate.release()
    assert computing.wait().status == "ok"
