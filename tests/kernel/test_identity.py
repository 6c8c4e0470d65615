"""How libraries find out that they are in a notebook, and what they then use of the kernel."""

from __future__ import annotations

import importlib.util

import pytest

from .driver import Kernel

# What it takes, the cell, and what it says.
PROBES = [
    (
        "IPython",
        "get_ipython().__class__.__name__, 'IPKernelApp' in get_ipython().config",
        "('ZMQInteractiveShell', True)",
    ),
    ("IPython", "str(type(get_ipython()))", "\"<class 'ipykernel.zmqshell.ZMQInteractiveShell'>\""),
    (
        "IPython",
        "from traitlets.config import Application\nApplication.instance().kernel is get_ipython().kernel",
        "True",
    ),
    ("tqdm ipywidgets", "from tqdm.autonotebook import tqdm\ntqdm.__module__", "'tqdm.notebook'"),
    ("rich", "from rich.console import Console\nConsole().is_jupyter", "True"),
    ("plotly", "import plotly.io as pio\npio.renderers.default", "'plotly_mimetype'"),
    ("distributed", "import distributed\ndistributed.utils.is_kernel()", "True"),
    ("wandb", "import wandb.jupyter as w\nw.jupyter_servers_and_kernel_id()[1] is not None", "True"),
]


@pytest.mark.parametrize(("library", "code", "said"), PROBES)
def test_a_library_knows_where_it_is(shared_kernel: Kernel, library: str, code: str, said: str) -> None:
    if missing := [name for name in library.split() if not importlib.util.find_spec(name)]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    assert shared_kernel.run(code, timeout=60).text == said


@pytest.mark.parametrize(
    "send",
    [
        "kernel.session.send(kernel.iopub_socket, 'stream', {'name': 'stdout', 'text': 'hi'}, kernel.get_parent())",
        "kernel.send_response(kernel.iopub_socket, 'stream', {'name': 'stdout', 'text': 'hi'})",
        "pub = get_ipython().display_pub\n"
        "pub.session.send(pub.pub_socket, 'stream', {'name': 'stdout', 'text': 'hi'}, parent=pub.parent_header)",
    ],
)
def test_a_message_of_ones_own_is_sent_in_order(shared_kernel: Kernel, send: str) -> None:
    result = shared_kernel.run(f"kernel = get_ipython().kernel\nprint('a', end='')\n{send};\nprint('b')")
    assert result.stdout == "ahib\n", str(result)


def test_the_request_that_runs_can_be_asked_for(shared_kernel: Kernel) -> None:
    code = "parent = get_ipython().kernel.get_parent(); parent['header']['msg_id'], parent['content']['code'][:6]"
    result = shared_kernel.run(code)
    assert result.text == str((result.messages[0].parent["msg_id"], "parent"))


def test_output_can_be_made_that_of_an_earlier_cell(shared_kernel: Kernel) -> None:
    first = shared_kernel.submit("kernel = get_ipython().kernel; first = kernel.get_parent()")
    first.wait()
    code = "token = get_ipython().display_pub.set_thread_parent(first)\nprint('to the first')\n"
    result = shared_kernel.run(code + "get_ipython().display_pub.reset_thread_parent(token)\nprint('to this')")
    assert result.stdout == "to this\n"
    first.wait_for_stream("to the first")


@pytest.mark.mpkernel_only("it has its own modules")
def test_modules_of_ipykernel_lead_to_this_kernel(shared_kernel: Kernel) -> None:
    code = "from ipykernel.comm import Comm\nc = Comm(target_name='mine', data={'a': 1})"
    assert [c["target_name"] for c in shared_kernel.run(code).of_type("comm_open")] == ["mine"]
    code = "from ipykernel.zmqshell import ZMQInteractiveShell as S\nisinstance(get_ipython(), S)"
    assert shared_kernel.value(code) is True
    code = "import ipykernel\nipykernel.connect.get_connection_file() == get_ipython().kernel.app.connection_file"
    assert shared_kernel.value(code) is True
    assert shared_kernel.value("ipykernel.zmqshell.ZMQInteractiveShell is type(get_ipython())") is True
    shared_kernel.run("from ipykernel.kernelapp import IPKernelApp")
    assert shared_kernel.value("IPKernelApp.initialized()") is True
    assert shared_kernel.value("IPKernelApp.instance() is get_ipython().kernel.app") is True


def test_a_librarys_requests_to_the_kernel(shared_kernel: Kernel) -> None:
    shared_kernel.run("kernel = get_ipython().kernel")
    assert "print" in shared_kernel.value("kernel.do_complete('pri', 3)['matches']")
    assert shared_kernel.value("kernel.do_inspect('len', 3)['found']") is True
    assert shared_kernel.value("kernel.do_is_complete('for a in b:')['status']") == "incomplete"
    assert shared_kernel.value("kernel.do_history('tail', False, True, n=1)['status']") == "ok"
    assert shared_kernel.value("get_ipython().parent_header == kernel.get_parent()") is True
    assert shared_kernel.value("kernel.banner.startswith('Python')") is True
    assert shared_kernel.value("import comm\ncomm.create_comm(target_name='t').kernel is kernel") is True


@pytest.mark.mpkernel_only("it is ipykernel")
def test_without_ipykernel_a_stand_in_has_these_modules_and_no_others(shared_kernel: Kernel) -> None:
    hide = (
        "import importlib.machinery, sys\n"
        "for name in [n for n in sys.modules if n.partition('.')[0] == 'ipykernel' and n != 'ipykernel.zmqshell']:\n"
        "    del sys.modules[name]\n"
        "find = importlib.machinery.PathFinder.find_spec\n"
        "importlib.machinery.PathFinder.find_spec = lambda name, *a: None if name == 'ipykernel' else find(name, *a)\n"
        "import ipykernel.comm\nimport ipykernel\n"
        "found = (ipykernel.version_info, ipykernel.comm.Comm.__name__)\n"
        "importlib.machinery.PathFinder.find_spec = find"
    )
    assert shared_kernel.run(hide).status == "ok"
    assert shared_kernel.value("found") == ((7, 4, 0), "Comm")
    assert shared_kernel.run("import ipykernel.kernelbase").ename == "ModuleNotFoundError"
