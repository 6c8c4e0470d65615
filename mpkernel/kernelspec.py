"""Install and remove kernelspecs: the directories in which Jupyter finds out that mpkernel is there.

https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs. The directory `DATA` is a whole kernelspec.
The wheel ships it as share/jupyter/kernels/mpkernel, so most people never need this module: it is for another name
(``python3``, to be the default kernel), another place, or an environment of its own.

`jupyter_client` takes 160 ms to import; `kernel_dict` and `check_name` do without it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mpkernel.errors import MPKernelError, UnsupportedPlatform
from mpkernel.wire import PROTOCOL_VERSION

if TYPE_CHECKING:
    from jupyter_client.kernelspec import KernelSpecManager

NAME = "mpkernel"
DISPLAY_NAME = "Python 3 (mpkernel)"
DATA = Path(__file__).parent / "data" / "kernelspec"

InterruptMode = Literal["signal", "message"]

# As jupyter_client has it, but for the whole name and without "." and "..": install_kernel_spec lets these two pass,
# and deletes what is in the directory before it writes there.
_VALID_NAME = re.compile(r"(?!\.{1,2}\Z)[a-z0-9._-]+", re.IGNORECASE | re.ASCII)


class KernelspecError(MPKernelError):
    """A kernelspec can't be installed or removed. Exit code 1."""


class InvalidKernelspec(KernelspecError):
    """What a kernelspec should be called or contain can't be. Exit code 2."""


# --- what is in a kernelspec --------------------------------------------------------------------------------------


def kernel_dict(
    display_name: str = DISPLAY_NAME,
    env: Mapping[str, str] | None = None,
    extra_arguments: Sequence[str] = (),
    python: str = sys.executable,
    interrupt_mode: InterruptMode = "signal",
) -> dict[str, Any]:
    """The content of kernel.json. As `python`, Jupyter takes the word ``python`` to be its own interpreter.

    Raises InvalidKernelspec for an `env` that no process could have.
    """
    for key, value in (env or {}).items():
        if not key or "=" in key or "\0" in key + value:
            raise InvalidKernelspec(f"{key!r} can't be the name of an environment variable: {key}={value!r}")
    return {
        "argv": [python, "-m", "mpkernel", "-f", "{connection_file}", *extra_arguments],
        "display_name": display_name,
        "language": "python",
        "interrupt_mode": interrupt_mode,
        "kernel_protocol_version": PROTOCOL_VERSION,
        "metadata": {
            "debugger": True,
            # Once more, because older versions of jupyter_client pass on no key that they don't know, but all metadata.
            "kernel_protocol_version": PROTOCOL_VERSION,
            "supported_encryption": ["curve"],  # jupyter_client ≥ 8.9 makes keys only for a kernel that says so
        },
        **({"env": dict(env)} if env else {}),
    }


def dumps(spec: Mapping[str, Any]) -> str:
    """`spec` as the text of a kernel.json."""
    return json.dumps(spec, indent=1) + "\n"


def check_name(name: str) -> str:
    """`name` as Jupyter spells it, in lower case. Raises InvalidKernelspec if it can't be a kernel's."""
    if not _VALID_NAME.fullmatch(name):
        raise InvalidKernelspec(
            f"{name!r} can't be the name of a kernel: that consists of ASCII letters, digits, '.', '_' and '-' "
            "(such as 'mpkernel-gpu')"
        )
    return name.lower()


# --- where kernelspecs are ----------------------------------------------------------------------------------------


def location(*, user: bool = False, prefix: str | None = None) -> Path:
    """The directory of kernelspecs of the user, below `prefix`, or else of the system.

    Raises InvalidKernelspec for both at once, or an empty `prefix`.
    """
    if prefix is not None:
        if user or not prefix:
            raise InvalidKernelspec("a prefix must be a directory, and can't be combined with a user's installation")
        return Path(_absolute(prefix), "share", "jupyter", "kernels")
    if user:
        return Path(_manager().user_kernel_dir)
    from jupyter_core.paths import SYSTEM_JUPYTER_PATH

    return Path(SYSTEM_JUPYTER_PATH[0], "kernels")


def known() -> dict[str, Path]:
    """The kernelspecs that Jupyter finds, by name, with their directories; the first of each name, as Jupyter does.

    Raises KernelspecError if one of the directories where it looks can't be read.
    """
    return _find(None)


def read(directory: Path) -> dict[str, Any]:
    """The content of the kernel.json in `directory`; an empty dict if there is none that can be read."""
    try:
        spec = json.loads((directory / "kernel.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return spec if isinstance(spec, dict) else {}


def runs_mpkernel(spec: Mapping[str, Any]) -> bool:
    """Whether the first ``-m`` of the command is followed by ``mpkernel``."""
    argv = spec.get("argv")
    return isinstance(argv, list) and "-m" in argv and argv[argv.index("-m") + 1 :][:1] == ["mpkernel"]


# --- install and remove -------------------------------------------------------------------------------------------


def install(
    name: str = NAME,
    *,
    user: bool = False,
    prefix: str | None = None,
    display_name: str | None = None,
    env: Mapping[str, str] | None = None,
    extra_arguments: Sequence[str] = (),
    python: str = sys.executable,
    interrupt_mode: InterruptMode = "signal",
) -> Path:
    """Write a kernelspec, in place of any that has its `name` there, and return its directory.

    Without a `display_name`, a kernel of another name than ``mpkernel`` or ``python3`` is shown by that name.
    Raises UnsupportedPlatform, InvalidKernelspec, or KernelspecError if the place can't be written to.
    """
    if sys.platform == "win32":
        raise UnsupportedPlatform(
            "mpkernel doesn't run on Windows: it needs fork or POSIX signals, and Unix sockets. It runs under WSL 2; "
            "ipykernel runs on Windows itself"
        )
    name = check_name(name)
    shown = display_name or (DISPLAY_NAME if name in (NAME, "python3") else name)
    spec = kernel_dict(shown, env, extra_arguments, python, interrupt_mode)
    target = location(user=user, prefix=prefix) / name
    try:
        with tempfile.TemporaryDirectory(prefix="mpkernel-") as temporary:
            # Not `temporary` itself: Jupyter copies the mode as well, and that directory's keeps everyone else out.
            staged = Path(temporary, name)
            staged.mkdir()
            for logo in DATA.glob("logo-*"):
                shutil.copyfile(logo, staged / logo.name)
            (staged / "kernel.json").write_text(dumps(spec), encoding="utf-8")
            absolute = None if prefix is None else _absolute(prefix)
            return Path(_manager().install_kernel_spec(str(staged), name, user=user, prefix=absolute))
    except OSError as error:
        ways = f"--user (for you alone) or --sys-prefix (for this environment, {sys.prefix})"
        hint = "" if user or prefix else f"; use {ways}"
        raise KernelspecError(f"can't install to {target}: {error}{hint}") from error


def locate(name: str = NAME, *, user: bool = False, prefix: str | None = None, force: bool = False) -> Path:
    """The directory that `uninstall` would remove. Raises what it raises for a kernelspec that it won't remove."""
    name = check_name(name)
    place = location(user=user, prefix=prefix) if user or prefix is not None else None
    found = _find(place).get(name)
    if found is None:
        where = f" in {place}" if place else ""
        others = ", ".join(f"{other} ({path})" for other, path in known().items()) or "none"
        raise KernelspecError(f"there is no kernelspec {name!r}{where}; Jupyter knows: {others}")
    spec = read(found)
    if not (force or runs_mpkernel(spec)):
        raise KernelspecError(
            f"{found} isn't mpkernel's: its command is {spec.get('argv')}. Use --force to remove it all the same"
        )
    return found


def uninstall(name: str = NAME, *, user: bool = False, prefix: str | None = None, force: bool = False) -> Path:
    """Remove a kernelspec and return the directory that it had. With no place given, the one that Jupyter uses.

    Raises KernelspecError if there is none, if it isn't mpkernel's (but for `force`), or if it can't be removed.
    """
    found = locate(name, user=user, prefix=prefix, force=force)
    try:
        _manager(found.parent).remove_kernel_spec(check_name(name))
    except OSError as error:
        raise KernelspecError(f"can't remove {found}: {error}") from error
    return found


def _absolute(prefix: str) -> str:
    return os.path.abspath(os.path.expanduser(prefix))


def _find(directory: Path | None) -> dict[str, Path]:
    try:
        return {name: Path(path) for name, path in sorted(_manager(directory).find_kernel_specs().items())}
    except OSError as error:
        raise KernelspecError(f"can't list the kernelspecs that are there: {error}") from error


def _manager(directory: Path | None = None) -> KernelSpecManager:
    """Jupyter's manager for all kernelspecs, or for those in `directory`."""
    from jupyter_client.kernelspec import KernelSpecManager

    # Without the "native" kernel, which is a directory inside the package of ipykernel that nobody installed as such.
    manager = KernelSpecManager(ensure_native_kernel=False)
    if directory is not None:
        manager.kernel_dirs = [str(directory)]
    return manager
