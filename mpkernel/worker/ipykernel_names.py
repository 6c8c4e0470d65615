"""The names under ``ipykernel`` by which libraries reach a kernel: here they reach this one.

bokeh, panel and matplotlib's notebook backend make comms by ``ipykernel.comm.Comm``, wandb asks ``ipykernel.connect``
for the connection file, some ask ``ipykernel.kernelapp.IPKernelApp.initialized()``, toolkits bring their event loops by
``ipykernel.eventloops.register_integration``, and tqdm, plotly and many a notebook tell by the name
``ipykernel.zmqshell`` where they are.
Where ipykernel is installed (JupyterLab brings it), those modules would find no kernel of theirs in this process, and
what is sent by them would be lost without a word; where it isn't, importing them would fail. So in a worker:

- the modules in `_MODULES`, and nothing else, are ours;
- without ipykernel, the package ``ipykernel`` itself is a stand-in that has only them. Its version is that of the
  ipykernel whose names these are: older ones are treated differently by some libraries.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING, Any

from mpkernel.worker import shell
from mpkernel.worker.app import IPKernelApp

if TYPE_CHECKING:
    from mpkernel.worker.kernel import WorkerKernel

VERSION = (7, 4, 0)


class IPykernelNames(MetaPathFinder, Loader):
    """Finds and makes the modules. `install` once, in a worker."""

    def __init__(self, kernel: WorkerKernel) -> None:
        self._kernel = kernel
        self._modules: dict[str, Callable[[], dict[str, Any]]] = {
            "ipykernel.comm": self._comm,
            "ipykernel.comm.comm": self._comm,
            "ipykernel.comm.manager": self._comm,
            "ipykernel.connect": self._connect,
            "ipykernel.eventloops": self._eventloops,
            "ipykernel.kernelapp": self._kernelapp,
            "ipykernel.zmqshell": self._zmqshell,
        }

    def install(self) -> None:
        """From now on the modules are found; ``ipykernel.zmqshell`` is there already, as some look for just that."""
        sys.meta_path.insert(0, self)
        name = "ipykernel.zmqshell"
        module = types.ModuleType(name, __doc__)
        module.__spec__ = self.find_spec(name)
        module.__file__ = shell.__file__  # for `inspect`
        vars(module).update(self._zmqshell())
        sys.modules[name] = module

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in self._modules:
            return ModuleSpec(fullname, self, is_package=fullname == "ipykernel.comm")
        if fullname == "ipykernel" and PathFinder.find_spec(fullname) is None:
            return ModuleSpec(fullname, self, is_package=True)
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        if module.__name__ == "ipykernel":
            vars(module).update(version_info=VERSION, __version__=".".join(map(str, VERSION)))
            importlib.import_module("ipykernel.connect")
            vars(module).update(self._connect())
        else:
            vars(module).update(self._modules[module.__name__]())
        if module.__name__ == "ipykernel.connect":  # which the package imports, ours or not
            vars(sys.modules["ipykernel"])["zmqshell"] = sys.modules["ipykernel.zmqshell"]

    def _comm(self) -> dict[str, Any]:
        import comm

        manager = type(self._kernel.comm_manager)
        return {"Comm": comm.create_comm, "BaseComm": comm.create_comm, "CommManager": manager, "__all__": ["Comm"]}

    def _zmqshell(self) -> dict[str, Any]:
        names = ("ZMQInteractiveShell", "ZMQDisplayPublisher", "ZMQShellDisplayHook")
        return {name: getattr(shell, name) for name in names}

    def _kernelapp(self) -> dict[str, Any]:
        return {"IPKernelApp": IPKernelApp, "__all__": ["IPKernelApp"]}

    def _eventloops(self) -> dict[str, Any]:
        shell: Any = self._kernel.shell

        def enable_gui(gui: str | None, kernel: Any = None) -> None:  # noqa: ARG001 - callers name it
            """``%gui``; there is no other kernel than this."""
            shell.enable_gui(gui)

        names = {"register_integration": shell.gui.register_integration, "enable_gui": enable_gui}
        return {**names, "__all__": list(names)}

    def _connect(self) -> dict[str, Any]:
        path = self._kernel.settings.connection_file

        def get_connection_file(_app: Any = None) -> str:
            """The path of this kernel's connection file."""
            return path

        def get_connection_info(connection_file: str | None = None, unpack: bool = False) -> Any:
            """The content of a connection file, of this kernel's by default: text, or a dict if `unpack`."""
            import json

            with open(connection_file or path) as file:
                text = file.read()
            if not unpack:
                return text
            info = json.loads(text)
            return {**info, "key": str(info.get("key", "")).encode()}

        names = {"get_connection_file": get_connection_file, "get_connection_info": get_connection_info}
        return {**names, "__all__": list(names)}
