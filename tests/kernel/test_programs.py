"""Programs that start kernels, or talk to one: they find mpkernel as they would find ipykernel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from .client import Client
from .driver import KERNEL, start_kernel
from .programs import WITHIN, free_ports, needs, notebook, run
from .sandbox import Sandbox, poll_until

pytestmark = pytest.mark.skipif(KERNEL != "mpkernel", reason="they are about how mpkernel is found")


@pytest.fixture
def home() -> Iterator[Sandbox]:
    """A place where ``mpkernel install --name python3`` has been run, and nothing is left over at the end.

    Jupyter looks there first: the environment of the tests may have a ``python3`` of ipykernel's.
    """
    with Sandbox() as sandbox, pytest.MonkeyPatch.context() as patch:
        prefix = sandbox.root / "prefix"
        run(sandbox, "-m", "mpkernel", "install", "--prefix", str(prefix), "--name", "python3")
        patch.setattr(
            sandbox,
            "environment",
            lambda: Sandbox.environment(sandbox) | {"JUPYTER_PATH": str(prefix / "share/jupyter")},
        )
        yield sandbox
        assert sandbox.leftovers() == []


WHICH = "print(type(get_ipython().kernel).__module__.partition('.')[0])"


@needs("nbclient")
def test_nbclient(home: Sandbox) -> None:
    path = notebook(home, WHICH, "1 + 1", "import time; print('done')")
    code = (
        "import nbformat, nbclient\n"
        f"nb = nbclient.execute(nbformat.read({str(path)!r}, 4))\n"
        "print([output.get('text') or output['data']['text/plain'] for cell in nb.cells for output in cell.outputs])"
    )
    assert run(home, "-c", code) == "['mpkernel\\n', '2', 'done\\n']\n"


@needs("nbclient")
@needs("ipywidgets")
def test_nbclient_keeps_the_states_of_widgets(home: Sandbox) -> None:
    """What voila and nbconvert show of them."""
    path = notebook(home, "import ipywidgets\nipywidgets.IntSlider(value=7)", "print('done')")
    code = (
        "import nbformat, nbclient\n"
        f"nb = nbformat.read({str(path)!r}, 4)\n"
        "def executed(cell, cell_index, execute_reply): print(cell_index, execute_reply['content']['status'])\n"
        "nbclient.NotebookClient(nb, on_cell_executed=executed, store_widget_state=True).execute()\n"
        "states = nb.metadata.widgets['application/vnd.jupyter.widget-state+json']['state'].values()\n"
        "print([state['state']['value'] for state in states if state['model_name'] == 'IntSliderModel'])"
    )
    assert run(home, "-c", code).splitlines() == ["0 ok", "1 ok", "[7]"]


@needs("nbconvert")
def test_nbconvert(home: Sandbox) -> None:
    path = notebook(home, WHICH)
    assert "mpkernel" in run(home, "-m", "nbconvert", "--to", "markdown", "--execute", "--stdout", str(path))


@needs("papermill")
def test_papermill(home: Sandbox) -> None:
    path = notebook(home, "x = 1", "print(x, flush=True)")
    content = json.loads(path.read_text())
    content["cells"][0]["metadata"]["tags"] = ["parameters"]
    path.write_text(json.dumps(content))
    run(home, "-m", "papermill", str(path), "out.ipynb", "-p", "x", "42", "--no-progress-bar")
    assert '"42\\n"' in (home.cwd / "out.ipynb").read_text()


@needs("jupyter_console")
def test_jupyter_console(home: Sandbox) -> None:
    code = f"{WHICH}\nprint(6 * 7)\nexit\n"
    assert "42" in run(home, "-m", "jupyter_console", "--simple-prompt", text=code)


def test_jupyter_run(home: Sandbox) -> None:
    (home.cwd / "script.py").write_text(WHICH)
    assert run(home, "-m", "jupyter_client.runapp", "script.py") == "mpkernel\n"


def test_the_managers_options_reach_the_kernel(home: Sandbox) -> None:
    code = (
        "import asyncio, os, jupyter_client\n"
        "async def main():\n"
        "    km, kc = await jupyter_client.manager.start_new_async_kernel(\n"
        "        cwd=os.environ['HOME'], env={**os.environ, 'N': '1'},\n"
        "        extra_arguments=['--IPKernelApp.exec_lines=x = 5'])\n"
        '    await kc.execute_interactive(\'import os; e = os.environ; print(os.getcwd() == e["HOME"], e["N"], x)\')\n'
        "    await km.restart_kernel()\n"
        "    await kc.wait_for_ready()\n"
        "    await kc.execute_interactive('print(x)')\n"
        "    await km.restart_kernel(now=True)\n"
        "    await kc.wait_for_ready()\n"
        "    await kc.execute_interactive('print(x)')\n"
        "    await km.interrupt_kernel()\n"
        "    kc.stop_channels()\n"
        "    await km.shutdown_kernel(now=True)\n"
        "    print(await km.is_alive())\n"
        "asyncio.run(main())"
    )
    assert run(home, "-c", code).splitlines() == ["True 1 5", "5", "5", "False"]


def test_a_second_client_with_its_own_identity() -> None:
    with start_kernel() as kernel, Client(kernel.connection_file) as other:
        kernel.run("x = 1")
        assert other.value("x + 1") == 2
        asked = other.submit("input('whose?')", allow_stdin=True)
        request = asked.wait_for_input_request()
        other.answer_input(request, "the other's")
        assert asked.wait().text == '"the other\'s"'


PROGRAM = """
import json, os, sys, threading, mpkernel
from jupyter_client import BlockingKernelClient
def run(path, code):
    client = BlockingKernelClient()
    client.load_connection_file(str(path)); client.start_channels(); client.wait_for_ready(timeout=20)
    client.execute_interactive(code); client.stop_channels()
"""


def test_a_kernel_beside_a_program(home: Sandbox) -> None:
    code = PROGRAM + (
        "lock, data = threading.Lock(), [1]\n"
        "kernel = mpkernel.start_kernel(vars())\n"
        "run(kernel.connection_file, 'data.append(2); print(data, lock.locked(), os.getppid() > 1)')\n"
        "thread = threading.Thread(target=kernel.stop); thread.start(); thread.join(); kernel.stop()\n"
        "print(data, kernel.wait(0), kernel.connection_file.exists())\n"
    )
    assert run(home, "-c", code).splitlines() == ["[1, 2] False True", "[1] True False"]


def test_a_kernel_beside_a_program_ends_with_it(home: Sandbox) -> None:
    code = PROGRAM + "kernel = mpkernel.start_kernel({}); print(kernel.pid, flush=True); os._exit(0)"
    assert int(run(home, "-c", code)) > 0  # the fixture looks for what is left


def test_embed_kernel_sees_the_callers_variables(home: Sandbox) -> None:
    code = PROGRAM + (
        "def function():\n    local = 5\n    mpkernel.embed_kernel(connection_file='own.json')\n    print('after')\n"
        "def client():\n"
        "    path = os.path.join(os.environ['JUPYTER_RUNTIME_DIR'], 'own.json')\n"
        "    while not os.path.exists(path): threading.Event().wait(0.02)\n"
        "    run(path, 'print(local, function.__name__)\\nexit()')\n"
        "thread = threading.Thread(target=client); thread.start(); function(); thread.join()"
    )
    assert run(home, "-c", code).splitlines() == ["5 function", "after"]


def test_options_of_ipykernels_names(home: Sandbox) -> None:
    process = subprocess.Popen(
        [
            *(
                sys.executable,
                "-m",
                "mpkernel",
                "-f",
                "own.json",
                "--Session.key=secret",
                "--Session.username=somebody",
            ),
            *("--IPKernelApp.quiet=False", "--Kernel.stop_on_error_timeout=0.1", "--IPKernelApp.no_stderr=True"),
            *("--IPythonKernel.use_experimental_completions=False", "--IPKernelApp.parent_handle=1"),
        ],
        env=home.environment(),
        cwd=home.cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    path = home.runtime / "own.json"
    ended = threading.Event()
    while not path.exists() and process.poll() is None:
        ended.wait(0.02)
    with Client(str(path)) as client:
        assert client.connection["key"] == "secret"
        result = client.run("print('echoed')")
        assert (result.stdout, result.reply.header["username"]) == ("echoed\n", "somebody")
        completions = client.request("complete_request", {"code": "pri", "cursor_pos": 3})
        assert completions.content["metadata"] == {}
        client.control("shutdown_request", None)
    stdout, stderr = process.communicate(timeout=WITHIN)
    assert (process.returncode, stdout, stderr) == (0, "echoed\n", "")
    assert not path.exists()
    assert os.listdir(home.runtime) == []


def test_a_start_with_ports_and_key_and_a_file_that_is_not_there_yet(home: Sandbox) -> None:
    """VS Code has started kernels so: values written as in Python, an absolute path."""
    ports = free_ports("shell", "iopub", "stdin", "control", "hb")
    path = home.cwd / "kernel-v2.json"
    arguments = ["--ip=127.0.0.1", '--transport="tcp"', '--Session.signature_scheme="hmac-sha256"', f"--f={path}"]
    arguments += ['--Session.key=b"some-key"', *(f"--{channel}={port}" for channel, port in ports.items())]
    process = subprocess.Popen(
        [sys.executable, "-m", "mpkernel", *arguments], env=home.environment(), cwd=home.cwd, stderr=subprocess.PIPE
    )
    assert poll_until(lambda: path.exists() or process.poll() is not None, WITHIN)
    with Client(str(path)) as client:
        assert client.connection["key"] == "some-key"
        assert {channel: client.connection[f"{channel}_port"] for channel in ports} == ports
        assert client.value("6 * 7") == 42
        client.control("shutdown_request", None)
    assert str(path).encode() in process.communicate(timeout=WITHIN)[1]
    assert (process.returncode, path.exists()) == (0, False)


def test_an_option_of_ipykernels_that_has_no_meaning_here_is_told_of_once() -> None:
    with start_kernel("--IPKernelApp.trio_loop=True", "--IPKernelApp.kernel_class=some.Kernel") as kernel:
        assert kernel.value("1") == 1
        for name in ("trio_loop", "kernel_class"):
            assert kernel.sandbox.log.read_text().count(f"IPKernelApp.{name} has no effect") == 1


def test_a_provisioner_of_ones_own(home: Sandbox) -> None:
    code = (
        "import asyncio, os, jupyter_client\n"
        "from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner\n"
        "class Own(LocalProvisioner):\n"
        "    async def pre_launch(self, **kwargs):\n"
        "        kwargs = await super().pre_launch(**kwargs)\n"
        "        return {**kwargs, 'env': {**kwargs['env'], 'FROM': 'provisioner'}}\n"
        "    async def send_signal(self, signum):\n"
        "        print('signal', signum); await super().send_signal(signum)\n"
        "KernelProvisionerFactory.instance().create_provisioner_instance = (\n"
        "    lambda kernel_id, spec, parent: Own(kernel_id=kernel_id, kernel_spec=spec, parent=parent))\n"
        "km, kc = jupyter_client.manager.start_new_kernel()\n"
        "kc.execute_interactive('import os; print(os.environ[\"FROM\"])')\n"
        "running = kc.execute('print(\"ready\", flush=True)\\nwhile True: pass')\n"
        "while kc.get_iopub_msg(timeout=20)['msg_type'] != 'stream': pass\n"
        "km.interrupt_kernel()\n"
        "print(kc.get_shell_msg(timeout=20)['content']['ename'])\n"
        "kc.stop_channels(); km.shutdown_kernel(); print(km.is_alive())"
    )
    assert run(home, "-c", code).splitlines() == [
        *("provisioner", "signal 2", "KeyboardInterrupt"),
        *("signal 2", "False"),  # jupyter_client interrupts what it shuts down
    ]


def test_jupyter_kernel(home: Sandbox) -> None:
    """It starts a kernel, says how to connect, and ends it with itself."""
    program = "from jupyter_client.kernelapp import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "--kernel=python3"],
        env=home.environment(),
        cwd=home.cwd,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = next(line for line in process.stderr if "Connection file" in line)
    with Client(said.split(": ")[-1].strip().rpartition(" ")[-1]) as client:
        assert client.value("6 * 7") == 42
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=WITHIN)
    assert process.returncode == 0
