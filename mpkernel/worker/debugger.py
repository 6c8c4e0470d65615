"""The debugger of one subshell: what debug_requests get for an answer. See docs/debugger.md.

Each request is a task on a loop in a thread of its own, so that none waits for another: what a stopped thread is asked
to evaluate may take for ever, and `continue`, an interrupt or `disconnect` must still get through.
"""

from __future__ import annotations

import ast
import asyncio
import itertools
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.inputtransformer2 import leading_empty_lines

from mpkernel import messages
from mpkernel.errors import BadMessage
from mpkernel.wire import Json, iopub_topic
from mpkernel.worker import cellfiles, dap
from mpkernel.worker.explorer import Explorer, users
from mpkernel.worker.threads import KernelThread, executor

if TYPE_CHECKING:
    from mpkernel.worker.kernel import WorkerKernel

# Packages between the user's code and the loop: never shown in a stack, never stepped into.
INTERNAL_PACKAGES = ("mpkernel", "IPython", "traitlets", "asyncio")

# pydevd numbers the threads as it meets them; JupyterLab counts on this, too.
MAIN_THREAD = 1

# Of the groups in a list of variables there's nothing rich to show.
_GROUPS = ("special variables", "function variables", "class variables", "protected variables")

# Requests of which one is done after the other, and before those that follow.
SESSION = ("initialize", "attach", "disconnect", "terminate")

Handler = Callable[[Json, Json], Awaitable[Json]]


class Refused(Exception):
    """The request can't be done; the text says why, and what would help."""


class Debugger:
    """`put` may be called in any thread; all else belongs to the loop's."""

    def __init__(self, kernel: WorkerKernel) -> None:
        self.attached = False
        self.started = False
        self.stopped: set[int] = set()  # ids of threads
        self._kernel = kernel
        self._parent: bytes = b"{}"  # header of the last request: events belong to it
        self._breakpoints: dict[str, list[Json]] = {}
        self._seqs = itertools.count(1)
        self._session = asyncio.Lock()
        self._letting_go = False
        self._stepping = False  # the next statement of the cell is to be stepped into
        self._explorer = Explorer(kernel.shell.user_ns)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._events: asyncio.Queue[Json] = asyncio.Queue()
        self._pydevd = dap.Pydevd(self._events.put_nowait, kernel.interrupts.go_on)
        self._looking = executor("explorer")  # runs the user's __repr__, which may take its time
        self._always: dict[str, Handler] = {  # also while the debugger is off
            "debugInfo": self._debug_info,
            "inspectVariables": self._inspect_variables,
            "richInspectVariables": self._rich_inspect,
            "copyToGlobals": self._copy_to_globals,
            "modules": self._modules,
            "variables": self._variables,
            "initialize": self._initialize,
            "disconnect": self._disconnect,
            "terminate": self._disconnect,  # the kernel isn't the debugger's to end
        }
        self._when_started: dict[str, Handler] = {
            "attach": self._attach,
            "launch": self._refuse_launch,
            "dumpCell": self._dump_cell,
            "source": self._source,
        }
        self._when_attached: dict[str, Handler] = {
            "configurationDone": self._configuration_done,
            "setBreakpoints": self._set_breakpoints,
        }

    # --- in and out -------------------------------------------------------------------------------------------------

    def put(self, request: messages.SideRequest) -> None:
        """In the service thread: a debug_request."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            KernelThread("debugger", self._run).start()
        self._loop.call_soon_threadsafe(self._begin, request)

    def _run(self) -> None:
        assert self._loop is not None
        asyncio.set_event_loop(self._loop)
        self._keep(self._forward_events())
        self._loop.run_forever()

    def _keep(self, coroutine: Any) -> None:
        assert self._loop is not None
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _begin(self, request: messages.SideRequest) -> None:
        self._keep(self._serve(request))

    async def _serve(self, request: messages.SideRequest) -> None:
        from mpkernel.worker.kernel import message_of

        message = message_of(request)
        self._parent = message.header_frame
        content: Json = {}
        try:
            content = message.content()
            async with self._session:  # front ends don't wait for the reply to "attach" with what comes next
                handle = partial(self._handler(content), content, _arguments(content))
                if content["command"] in SESSION:
                    result = await handle()
            if content["command"] not in SESSION:
                result = await handle()
        except (Refused, BadMessage, dap.DebuggerUnavailable) as error:
            result = {"success": False, "message": str(error)}
        except Exception as error:
            self._kernel.log.exception("a debug_request could not be answered")
            result = {"success": False, "message": f"{type(error).__name__}: {error}"}
        reply: Json = {
            "seq": next(self._seqs),
            "type": "response",
            "request_seq": content.get("seq", 0),
            "command": content.get("command", ""),
            "success": result.get("success", True),
            **{key: result[key] for key in ("message", "body") if key in result},
        }
        blobs = self._kernel.pack_reply(message, reply)
        self._kernel.lanes.send(messages.Reply(request.seq, abort=False, execution_count=0, blobs=blobs))

    def _handler(self, content: Json) -> Handler:
        command = content.get("command")
        if not isinstance(command, str):
            raise Refused("a debug_request needs a 'command', a string, as the Debug Adapter Protocol has it")
        if handler := self._always.get(command):
            return handler
        if not self.started:
            raise Refused(f"there is no {command!r} while the debugger is off: send 'initialize', then 'attach'")
        if handler := self._when_started.get(command):
            return handler
        if not self.attached:
            raise Refused(f"nothing is being debugged yet, so there is no {command!r}: send 'attach' first")
        if handler := self._when_attached.get(command):
            return handler
        if not self._pydevd.knows(command):
            raise Refused(f"there is no debugger command {command!r}")
        return partial(self._forward, command)

    async def _forward(self, command: str, _content: Json, arguments: Json) -> Json:
        if not self.stopped and (command in dap.IN_STOPPED_THREAD or command in dap.GO_ON):
            raise Refused(f"there is no {command!r} while nothing is stopped: set a breakpoint, or send 'pause'")
        return await self._pydevd.request(command, arguments)

    async def _forward_events(self) -> None:
        """One after the other, as front ends ask for the state when an event comes."""
        while True:
            event = await self._events.get()
            body = event.get("body", {})
            if event["event"] == "terminated":
                continue  # the process ends: the broker says so, however that comes about
            if event["event"] == "output" and "callback set in sys.settrace" in body.get("output", ""):
                continue  # an interrupt went through the trace function; the next cell sets it again
            if event["event"] == "stopped":
                self.stopped.add(body["threadId"])
                if body.get("allThreadsStopped"):
                    threads = await self._pydevd.request("threads")
                    self.stopped.update(thread["id"] for thread in threads.get("body", {}).get("threads", ()))
            elif event["event"] == "continued":
                if body.get("allThreadsContinued", True):
                    self.stopped.clear()
                self.stopped.discard(body.get("threadId"))
                if not self.stopped:
                    self._pydevd.give_up("the thread went on meanwhile", dap.IN_STOPPED_THREAD)
            self._publish(event)

    def _publish(self, event: Json) -> None:
        kernel = self._kernel
        topic = iopub_topic(kernel.settings.kernel_id, "debug_event")
        frames = kernel.codec.pack(
            "debug_event", {**event, "seq": next(self._seqs)}, parent=self._parent, idents=[topic]
        )
        kernel.lanes.send(messages.IOPub(None, tuple(frames)))

    # --- start and stop ---------------------------------------------------------------------------------------------

    async def _initialize(self, _content: Json, arguments: Json) -> Json:
        await self._pydevd.connect()
        response = await self._pydevd.request("initialize", {"adapterID": "", **arguments})
        self.started = bool(response["success"])
        transforms = self._kernel.shell.input_transformer_manager.cleanup_transforms
        if self.started and leading_empty_lines in transforms:
            transforms.remove(leading_empty_lines)  # breakpoints go by the lines of the cell as it was typed
        return response

    async def _attach(self, _content: Json, arguments: Json) -> Json:
        settings = self._kernel.settings
        arguments = {**arguments, "stopOnEntry": False}
        if not settings.debug_just_my_code:
            arguments["debugOptions"] = [*_list(arguments, "debugOptions"), "DebugStdLib"]
        if settings.filter_internal_frames:
            arguments["rules"] = [*_list(arguments, "rules"), *self._hidden()]
        response = await self._pydevd.request("attach", arguments)
        if response["success"]:
            await self._pydevd.request("configurationDone")
            dap.trace_all_threads()
            dap.stop_at_breakpoint_calls()
            self.attached = True
            self._kernel.lanes.send(messages.Debugged(attached=True))
        return response

    def _hidden(self) -> list[Json]:
        """Rules that keep the kernel's own code out of stacks and steps."""
        folders = (Path(str(sys.modules[name].__file__)).parent for name in INTERNAL_PACKAGES)
        files = (getattr(sys.modules.get(name), "__file__", None) for name in self._kernel.shell.template_modules)
        paths = [*(f"{folder}/**" for folder in folders), *(path for path in files if path)]
        return [{"path": path, "include": False} for path in paths]

    async def _refuse_launch(self, _content: Json, _arguments: Json) -> Json:
        raise Refused("the kernel runs already, so there is nothing to launch: send 'attach'")

    async def _configuration_done(self, _content: Json, _arguments: Json) -> Json:
        return {}  # sent to pydevd at the end of "attach"

    async def _disconnect(self, _content: Json, _arguments: Json) -> Json:
        response: Json = {}
        if self.attached:
            self.attached = False
            dap.ignore_breakpoint_calls()
            response = await self._pydevd.request("disconnect", {"terminateDebuggee": False})
            self._pydevd.give_up("the debugger was disconnected meanwhile", dap.IN_STOPPED_THREAD | dap.GO_ON)
            self._kernel.lanes.send(messages.Debugged(attached=False))
        if self.started:
            self.started = False
            transforms = self._kernel.shell.input_transformer_manager.cleanup_transforms
            if leading_empty_lines not in transforms:
                transforms.insert(0, leading_empty_lines)
        self._breakpoints.clear()
        self.stopped.clear()
        return response

    # --- cells and breakpoints --------------------------------------------------------------------------------------

    async def _dump_cell(self, _content: Json, arguments: Json) -> Json:
        code = _string(arguments, "code")
        try:
            return {"body": {"sourcePath": self._kernel.cell_files.write(code)}}
        except OSError as error:
            raise Refused(f"the cell can't be written for the debugger: {error}") from error

    async def _set_breakpoints(self, _content: Json, arguments: Json) -> Json:
        path = _source_path(arguments)
        response = await self._pydevd.request("setBreakpoints", arguments)
        if response["success"]:  # perhaps on other lines than it was asked for
            found = response["body"]["breakpoints"]
            self._breakpoints[path] = [{"line": breakpoint["line"]} for breakpoint in found if "line" in breakpoint]
        return response

    async def _source(self, content: Json, arguments: Json) -> Json:
        try:
            return {"body": {"content": Path(_source_path(arguments)).read_text(encoding="utf-8")}}
        except (OSError, ValueError):
            if self.attached and isinstance(arguments.get("sourceReference"), int):
                return await self._pydevd.request("source", arguments)
            raise Refused("source unavailable") from None

    async def _debug_info(self, _content: Json, _arguments: Json) -> Json:
        return {
            "body": {
                "isStarted": self.started,
                "hashMethod": cellfiles.HASH_METHOD,
                "hashSeed": cellfiles.HASH_SEED,
                "tmpFilePrefix": self._kernel.cell_files.prefix,
                "tmpFileSuffix": cellfiles.SUFFIX,
                "breakpoints": [{"source": path, "breakpoints": lines} for path, lines in self._breakpoints.items()],
                "stoppedThreads": sorted(self.stopped),
                "richRendering": True,
                "exceptionPaths": ["Python Exceptions"],
                "copyToGlobals": True,
            }
        }

    # --- variables --------------------------------------------------------------------------------------------------

    async def _look(self, call: Callable[..., Any], *args: Any) -> Any:
        """Have `call`, which runs code of the user's objects, done without holding other requests up."""
        return await asyncio.get_running_loop().run_in_executor(self._looking, call, *args)

    async def _inspect_variables(self, _content: Json, _arguments: Json) -> Json:
        return {"body": {"variables": users(await self._look(self._explorer.look))}}

    async def _variables(self, _content: Json, arguments: Json) -> Json:
        if self.stopped:
            response = await self._pydevd.request("variables", arguments)
            if response["success"]:
                response["body"]["variables"] = users(response["body"]["variables"])
            return response
        try:
            return {"body": {"variables": users(await self._look(self._explorer.children, _reference(arguments)))}}
        except KeyError:
            raise Refused("this variablesReference is out of date: send 'inspectVariables' again") from None

    async def _rich_inspect(self, _content: Json, arguments: Json) -> Json:
        name = _string(arguments, "variableName")
        if not name.isidentifier():
            return {"success": name in _GROUPS, "body": {"data": {}, "metadata": {}}}
        if self.stopped and arguments.get("frameId") is not None:
            return {"body": await self._rich_in_frame(name, arguments["frameId"])}
        found = await self._look(lambda: self._kernel.shell.user_expressions({name: name})[name])
        ok = found.get("status") == "ok"
        return {"body": {"data": found["data"] if ok else {}, "metadata": found["metadata"] if ok else {}}}

    async def _rich_in_frame(self, name: str, frame_id: object) -> Json:
        expression = f"get_ipython().kernel.debugger.rich({name})"
        arguments = {"expression": expression, "frameId": frame_id, "context": "clipboard"}
        response = await self._pydevd.request("evaluate", arguments)
        if not response["success"]:
            raise Refused(f"{name} can't be shown: {response.get('message', 'unknown reason')}")
        data, metadata = ast.literal_eval(response["body"]["result"])
        return {"data": data, "metadata": metadata}

    async def _copy_to_globals(self, _content: Json, arguments: Json) -> Json:
        source, target = _string(arguments, "srcVariableName"), _string(arguments, "dstVariableName")
        for name in (source, target):
            if not name.isidentifier():
                raise Refused(f"{name!r} is no name of a variable: it has to be a valid identifier")
        if not self.stopped:
            raise Refused("nothing is stopped, so there is no frame to copy from")
        copy = {"expression": f"globals()[{target!r}]", "value": source, "frameId": arguments.get("srcFrameId")}
        return await self._pydevd.request("setExpression", copy)

    async def _modules(self, _content: Json, arguments: Json) -> Json:
        start, count = arguments.get("startModule", 0), arguments.get("moduleCount") or sys.maxsize
        if not isinstance(start, int) or not isinstance(count, int):
            raise Refused("'startModule' and 'moduleCount' have to be numbers")
        modules = list(sys.modules.copy().items())
        found = []
        for number, (name, module) in enumerate(modules[start : start + count], start):
            origin = getattr(getattr(module, "__spec__", None), "origin", None)
            if isinstance(origin, str) and origin.endswith(".py"):
                found.append({"id": number, "name": name, "path": origin})
        return {"body": {"modules": found, "totalModules": len(modules)}}

    # --- for the main thread, which an interrupt has reached at a breakpoint ------------------------------------------

    def let_go(self) -> None:
        """Have the main thread go on, and raise what it was interrupted with."""
        if self._loop is not None and not self._letting_go:
            self._letting_go = True
            self._loop.call_soon_threadsafe(lambda: self._keep(self._let_go()))

    async def _let_go(self) -> None:
        try:
            await self._pydevd.request("continue", {"threadId": MAIN_THREAD})
        finally:
            self._letting_go = False

    @contextmanager
    def statement(self) -> Iterator[None]:
        """A statement of a cell runs in here, and is being debugged."""
        with dap.statement(stepping=self._stepping) as stepped:
            yield
        self._stepping = stepped()

    def end_of_cell(self) -> None:
        """A step that reaches it ends there."""
        self._stepping = False

    # --- for code that runs in the main thread ----------------------------------------------------------------------

    def rich(self, value: Any) -> tuple[Json, Json]:
        """MIME bundle and metadata of `value`, for a frame that is stopped."""
        formatter: Any = self._kernel.shell.display_formatter
        data, metadata = formatter.format(value)
        return data, {mime: about for mime, about in metadata.items() if mime in data}


# --- arguments ------------------------------------------------------------------------------------------------------


def _arguments(content: Json) -> Json:
    arguments = content.get("arguments") or {}
    if not isinstance(arguments, dict):
        raise Refused("the 'arguments' of a debug_request have to be an object")
    return arguments


def _string(arguments: Json, name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str):
        raise Refused(f"the argument {name!r} has to be a string, not {value!r:.40}")
    return value


def _list(arguments: Json, name: str) -> list[Any]:
    value = arguments.get(name)
    return value if isinstance(value, list) else []


def _reference(arguments: Json) -> int:
    value = arguments.get("variablesReference")
    if not isinstance(value, int):
        raise Refused(f"the argument 'variablesReference' has to be a number, not {value!r:.40}")
    return value


def _source_path(arguments: Json) -> str:
    source = arguments.get("source")
    if not isinstance(source, dict):
        raise Refused("the argument 'source' has to be an object with a 'path'")
    return _string(source, "path")
