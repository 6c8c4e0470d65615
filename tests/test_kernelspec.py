"""Kernelspecs: what is in them, where they go, and what `mpkernel install` and `uninstall` say about it."""

from __future__ import annotations

import argparse
import json
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jupyter_client.kernelspec
import jupyter_core.paths
import pytest
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

from mpkernel import kernelspec
from mpkernel.cli.kernelspec import add_parsers
from mpkernel.errors import UnsupportedPlatform

ROOT = Path(__file__).parents[1]
LOGOS = {"logo-32x32.png", "logo-64x64.png", "logo-svg.svg"}
INVALID_NAMES = ["", ".", "..", "a/b", "../a", "a b", "a\n", "é", "\N{KELVIN SIGN}ernel", "a$b"]


@dataclass(frozen=True)
class Places:
    """Where this test's Jupyter looks for kernelspecs, in its order, all below tmp_path."""

    user: Path
    prefix: Path
    environment: Path
    system: Path


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    system, prefix = tmp_path / "system", tmp_path / "prefix"
    for variable in ("JUPYTER_PATH", "JUPYTER_PLATFORM_DIRS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "user"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    monkeypatch.setattr(sys, "prefix", str(prefix))
    monkeypatch.setattr(jupyter_core.paths, "ENV_JUPYTER_PATH", [str(prefix / "share/jupyter")])
    for module in (jupyter_core.paths, jupyter_client.kernelspec):
        monkeypatch.setattr(module, "SYSTEM_JUPYTER_PATH", [str(system)])
    return Places(tmp_path / "user/kernels", prefix, prefix / "share/jupyter/kernels", system / "kernels")


@pytest.fixture
def mpkernel(places: Places) -> Callable[..., int]:
    """The command line, as a function that returns the exit code."""

    def run(*argv: str) -> int:
        parser = argparse.ArgumentParser(prog="mpkernel")
        add_parsers(parser.add_subparsers(required=True))
        try:
            args = parser.parse_args(argv)
        except SystemExit as stop:
            return int(stop.code or 0)
        return int(args.run(args))

    return run


def write_foreign(directory: Path) -> Path:
    directory.mkdir(parents=True)
    spec = {"argv": ["R", "-e", "x", "-m", "y", "-m", "mpkernel"], "display_name": "Other", "language": "R"}
    (directory / "kernel.json").write_text(json.dumps(spec))
    return directory


def files(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


# --- what is in a kernelspec --------------------------------------------------------------------------------------


def test_the_kernel_json_of_the_wheel_is_what_kernel_dict_gives() -> None:
    written = (kernelspec.DATA / "kernel.json").read_text(encoding="utf-8")
    assert written == kernelspec.dumps(kernelspec.kernel_dict(python="python"))


def test_the_wheel_has_nothing_but_kernel_json_and_the_logos_that_jupyter_asks_for() -> None:
    assert files(kernelspec.DATA) == LOGOS | {"kernel.json"}


@pytest.mark.parametrize("size", [32, 64])
def test_a_logo_has_the_size_that_its_name_says(size: int) -> None:
    data = (kernelspec.DATA / f"logo-{size}x{size}.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (size, size)


def test_jupyter_reads_from_a_kernelspec_what_was_meant() -> None:
    spec = KernelSpec.from_resource_dir(str(kernelspec.DATA))
    assert spec.argv == ["python", "-m", "mpkernel", "-f", "{connection_file}"]
    assert spec.language == "python"
    assert spec.interrupt_mode == "signal"
    assert spec.metadata == {"debugger": True, "kernel_protocol_version": "5.5", "supported_encryption": ["curve"]}
    assert "env" not in kernelspec.kernel_dict()


@pytest.mark.parametrize("key", ["", "A=B", "A\0B"])
def test_an_environment_that_no_process_can_have_is_refused(key: str) -> None:
    with pytest.raises(kernelspec.InvalidKernelspec, match="environment variable"):
        kernelspec.kernel_dict(env={key: "value"})


@pytest.mark.parametrize("name", INVALID_NAMES)
def test_a_name_that_jupyter_could_not_use_is_refused(name: str) -> None:
    with pytest.raises(kernelspec.InvalidKernelspec, match="can't be the name of a kernel"):
        kernelspec.check_name(name)


@pytest.mark.parametrize("name", ["mpkernel", "python3", "a.b-c_1", "..."])
def test_a_name_by_jupyters_rule_is_taken(name: str) -> None:
    assert kernelspec.check_name(name) == name
    assert kernelspec.check_name(name.upper()) == name


@pytest.mark.parametrize(
    ("argv", "ours"),
    [
        (["python", "-m", "mpkernel", "-f", "{connection_file}"], True),
        (["/usr/bin/python3", "-Xfrozen_modules=off", "-m", "mpkernel"], True),
        (["python", "-m", "ipykernel_launcher", "-f", "-m", "mpkernel"], False),
        (["mpkernel"], False),
        (["python", "-m"], False),
        ([], False),
        ("-m mpkernel", False),
        (None, False),
    ],
)
def test_a_kernelspec_is_ours_if_its_command_runs_the_module(argv: object, ours: bool) -> None:
    assert kernelspec.runs_mpkernel({"argv": argv}) is ours


# --- install ------------------------------------------------------------------------------------------------------


def test_install_writes_to_the_place_that_was_asked_for(places: Places, tmp_path: Path) -> None:
    assert kernelspec.install() == places.system / "mpkernel"
    assert kernelspec.install(user=True) == places.user / "mpkernel"
    assert kernelspec.install(prefix=str(tmp_path / "p")) == tmp_path / "p/share/jupyter/kernels/mpkernel"


def test_an_installed_kernelspec_runs_this_python_and_is_found_by_jupyter(places: Places) -> None:
    directory = kernelspec.install("Other", user=True, env={"A": "b=c"}, extra_arguments=["--x", "-y"])
    spec = KernelSpecManager().get_kernel_spec("other")
    assert spec.resource_dir == str(directory)
    assert spec.argv == [sys.executable, "-m", "mpkernel", "-f", "{connection_file}", "--x", "-y"]
    assert spec.env == {"A": "b=c"}
    assert files(directory) == LOGOS | {"kernel.json"}


def test_everyone_can_read_what_is_installed_for_everyone() -> None:
    directory = kernelspec.install()
    reference = directory.parents[1]  # made by Jupyter, with the mode that the umask gives
    assert stat.S_IMODE(directory.stat().st_mode) == stat.S_IMODE(reference.stat().st_mode)
    assert len({stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}) == 1


@pytest.mark.parametrize(
    ("name", "display_name", "shown"),
    [
        ("mpkernel", None, "Python 3 (mpkernel)"),
        ("python3", None, "Python 3 (mpkernel)"),
        ("gpu", None, "gpu"),
        ("gpu", "Für die GPU", "Für die GPU"),
    ],
)
def test_a_kernel_is_shown_by_its_display_name_or_else_its_name(
    name: str, display_name: str | None, shown: str
) -> None:
    kernelspec.install(name, user=True, display_name=display_name)
    assert KernelSpecManager().get_kernel_spec(name).display_name == shown


def test_installing_again_leaves_nothing_of_the_old_kernelspec() -> None:
    directory = kernelspec.install(user=True, env={"A": "B"})
    (directory / "old").touch()
    assert kernelspec.install(user=True) == directory
    assert files(directory) == LOGOS | {"kernel.json"}
    assert "env" not in kernelspec.read(directory)


def test_under_the_name_python3_it_is_jupyters_default_kernel() -> None:
    kernelspec.install("python3", user=True)
    spec = KernelSpecManager().get_kernel_spec(jupyter_client.kernelspec.NATIVE_KERNEL_NAME)
    assert kernelspec.runs_mpkernel(spec.to_dict())


def test_installing_on_windows_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, mpkernel: Callable[..., int], capsys: pytest.CaptureFixture[str], places: Places
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(UnsupportedPlatform, match="doesn't run on Windows"):
        kernelspec.install(user=True)
    assert mpkernel("install", "--user") == 1
    assert "WSL" in capsys.readouterr().err
    assert not places.user.exists()


# --- mpkernel install ---------------------------------------------------------------------------------------------


def test_install_says_where_and_what_next(
    mpkernel: Callable[..., int], capsys: pytest.CaptureFixture[str], places: Places
) -> None:
    assert mpkernel("install", "--sys-prefix", "--display-name", "Mine") == 0
    out = capsys.readouterr().out
    assert f"in {places.environment / 'mpkernel'}\n" in out
    assert "jupyter lab" in out
    assert "'Mine'" in out


def test_install_writes_all_options_into_the_kernelspec(mpkernel: Callable[..., int], places: Places) -> None:
    options = ["--name", "X", "--interrupt-mode", "message", "--env", "A", "1", "--env", "B", "${A}"]
    assert mpkernel("install", "--user", *options, "--", "--user", "a b", "-c", "x = 1") == 0
    assert kernelspec.read(places.user / "x") == kernelspec.kernel_dict(
        "x", {"A": "1", "B": "${A}"}, ["--user", "a b", "-c", "x = 1"], interrupt_mode="message"
    )


@pytest.mark.parametrize(
    "argv",
    [
        *(("--name", name) for name in INVALID_NAMES),
        ("--env", "A=B", "c"),
        ("--env", "", "c"),
        ("--env", "A"),
        ("--prefix", ""),
        ("--user", "--sys-prefix"),
        ("--user", "--prefix", "x"),
        ("--interrupt-mode", "shout"),
        ("python3",),
        ("python3", "--", "--keep"),
        ("--", "--nonsense=3"),
    ],
)
def test_install_refuses_what_makes_no_sense_with_exit_code_2(
    argv: tuple[str, ...], mpkernel: Callable[..., int], capsys: pytest.CaptureFixture[str], places: Places
) -> None:
    kernelspec.install("kept")
    assert mpkernel("install", *argv) == 2
    assert "mpkernel install: " in capsys.readouterr().err
    assert files(places.system) == {"kept"}
    assert not places.user.exists()


def test_install_where_one_may_not_write_says_which_option_helps(
    mpkernel: Callable[..., int], capsys: pytest.CaptureFixture[str], places: Places
) -> None:
    places.system.parent.touch()  # a file: nothing can be made below it, not even by root
    assert mpkernel("install") == 1
    err = capsys.readouterr().err
    assert f"can't install to {places.system / 'mpkernel'}: " in err
    assert "--user" in err
    assert "--sys-prefix" in err


def test_install_where_one_asked_for_and_may_not_write_suggests_no_other_place(
    mpkernel: Callable[..., int], capsys: pytest.CaptureFixture[str], places: Places
) -> None:
    places.prefix.touch()
    assert mpkernel("install", "--sys-prefix") == 1
    assert "--user" not in capsys.readouterr().err


def test_install_says_which_kernel_it_replaces(
    mpkernel: Callable[..., int], capsys: pytest.CaptureFixture[str], places: Places
) -> None:
    write_foreign(places.user / "python3")
    assert mpkernel("install", "--user", "--name", "python3") == 0
    assert "replaces the kernel 'Other'" in capsys.readouterr().out
    assert mpkernel("install", "--user", "--name", "python3") == 0
    assert "replaces" not in capsys.readouterr().out


def test_install_warns_if_jupyter_finds_another_kernelspec_first(
    mpkernel: Callable[..., int], capsys: pytest.CaptureFixture[str], places: Places
) -> None:
    first = write_foreign(places.user / "python3")
    assert mpkernel("install", "--sys-prefix", "--name", "python3") == 0
    out = capsys.readouterr().out
    assert f"finds {first} first" in out
    assert "jupyter lab" not in out


def test_install_says_how_to_make_jupyter_look_in_a_prefix(
    mpkernel: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    assert mpkernel("install", "--prefix", str(tmp_path / "p"), "--name", "elsewhere") == 0
    assert f"JUPYTER_PATH={tmp_path / 'p/share/jupyter'}\n" in capsys.readouterr().out
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "p/share/jupyter"))
    assert "elsewhere" in KernelSpecManager().find_kernel_specs()


def test_a_prefix_may_be_relative_or_in_the_home_directory(
    mpkernel: Callable[..., int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert mpkernel("install", "--prefix", "p/../q") == 0
    assert mpkernel("install", "--prefix=~/r") == 0
    assert (tmp_path / "q/share/jupyter/kernels/mpkernel/kernel.json").is_file()
    assert (tmp_path / "home/r/share/jupyter/kernels/mpkernel/kernel.json").is_file()


# --- mpkernel uninstall -------------------------------------------------------------------------------------------


def test_uninstall_removes_what_jupyter_uses_and_says_what_it_uses_now(
    mpkernel: Callable[..., int], capsys: pytest.CaptureFixture[str], places: Places
) -> None:
    first, second = kernelspec.install(user=True), kernelspec.install()
    assert mpkernel("uninstall", "-y") == 0
    out = capsys.readouterr().out
    assert f"Removed {first}\n" in out
    assert f"now uses the kernelspec 'mpkernel' in {second}" in out
    assert not first.exists()
    assert mpkernel("uninstall", "-y") == 0
    assert "now uses" not in capsys.readouterr().out
    assert not second.exists()


@pytest.mark.parametrize("place", [("--user",), ("--sys-prefix",), ("--prefix", "p")])
def test_uninstall_removes_from_the_place_that_was_asked_for(
    place: tuple[str, ...], mpkernel: Callable[..., int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    everywhere = [kernelspec.install(user=True), kernelspec.install(prefix=sys.prefix), kernelspec.install(prefix="p")]
    expected = {"--user": everywhere[0], "--sys-prefix": everywhere[1], "--prefix": everywhere[2]}[place[0]]
    assert mpkernel("uninstall", "-y", *place) == 0
    assert [path for path in everywhere if not path.exists()] == [expected]


def test_uninstall_of_what_is_not_there_lists_what_is(
    mpkernel: Callable[..., int], capsys: pytest.CaptureFixture[str], places: Places
) -> None:
    assert mpkernel("uninstall", "-y", "--name", "nothing") == 1
    assert "Jupyter knows: none" in capsys.readouterr().err
    there = kernelspec.install("there", user=True)
    assert mpkernel("uninstall", "-y", "--name", "there", "--sys-prefix") == 1
    err = capsys.readouterr().err
    assert f"there is no kernelspec 'there' in {places.environment}; Jupyter knows: there ({there})" in err
    assert there.exists()


def test_uninstall_never_touches_the_kernelspec_inside_the_package_of_ipykernel(
    mpkernel: Callable[..., int],
) -> None:
    pytest.importorskip("ipykernel")
    assert "python3" in KernelSpecManager().find_kernel_specs()
    assert mpkernel("uninstall", "-y", "--force", "--name", "python3") == 1


@pytest.mark.parametrize("name", INVALID_NAMES)
def test_uninstall_refuses_an_invalid_name_with_exit_code_2(name: str, mpkernel: Callable[..., int]) -> None:
    directory = kernelspec.install()
    assert mpkernel("uninstall", "-y", "--force", "--name", name) == 2
    assert directory.exists()


def test_uninstall_removes_another_kernels_kernelspec_only_by_force(
    mpkernel: Callable[..., int], capsys: pytest.CaptureFixture[str], places: Places
) -> None:
    foreign = write_foreign(places.user / "r")
    assert mpkernel("uninstall", "-y", "--name", "R") == 1
    assert "isn't mpkernel's" in capsys.readouterr().err
    assert foreign.exists()
    assert mpkernel("uninstall", "-y", "--name", "R", "--force") == 0
    assert not foreign.exists()


@pytest.mark.parametrize("text", ["", "[1]", '{"argv": 3}', '{"argv": ["-m"'])
def test_uninstall_takes_a_kernelspec_that_it_cannot_read_for_another_kernels(
    text: str, mpkernel: Callable[..., int], places: Places
) -> None:
    foreign = write_foreign(places.user / "mpkernel")
    (foreign / "kernel.json").write_text(text)
    assert mpkernel("uninstall", "-y") == 1
    assert foreign.exists()


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("Yes ", 0), ("n", 1), ("", 1), (EOFError, 1)])
def test_uninstall_asks_first(
    answer: str | type[EOFError], code: int, mpkernel: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    questions: list[str] = []

    def reply(question: str) -> str:
        questions.append(question)
        if isinstance(answer, str):
            return answer
        raise answer

    monkeypatch.setattr("builtins.input", reply)
    directory = kernelspec.install(user=True)
    assert mpkernel("uninstall") == code
    assert str(directory) in questions[0]
    assert directory.exists() == bool(code)


def test_uninstall_removes_a_link_but_not_what_it_points_to(mpkernel: Callable[..., int], places: Places) -> None:
    target = kernelspec.install(prefix=sys.prefix)
    places.user.mkdir(parents=True)
    link = places.user / "mpkernel"
    link.symlink_to(target)
    assert mpkernel("uninstall", "-y", "--user") == 0
    assert not link.is_symlink()
    assert target.exists()


def test_uninstall_says_why_it_cannot_remove(
    mpkernel: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = kernelspec.install(user=True)

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("shutil.rmtree", refuse)
    assert mpkernel("uninstall", "-y") == 1
    assert f"can't remove {directory}: [Errno 13] Permission denied" in capsys.readouterr().err


def test_a_place_that_cannot_be_listed_is_named(
    mpkernel: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(manager: KernelSpecManager) -> None:
        raise PermissionError(13, "Permission denied", "/some/kernels")

    monkeypatch.setattr(KernelSpecManager, "find_kernel_specs", refuse)
    assert mpkernel("uninstall", "-y") == 1
    assert "/some/kernels" in capsys.readouterr().err
    assert mpkernel("install", "--user") == 1
    installed, why = capsys.readouterr()
    assert "Installed the kernelspec" in installed
    assert "/some/kernels" in why


# --- the package --------------------------------------------------------------------------------------------------


def test_the_command_line_does_not_load_jupyter_client_before_it_needs_it() -> None:
    script = "import sys, mpkernel.cli.kernelspec; print([n for n in sys.modules if n.startswith(('jupyter', 'zmq'))])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_wheel_carries_the_kernelspec_to_where_jupyter_looks(tmp_path: Path) -> None:
    for module in ("build.__main__", "hatchling"):
        pytest.importorskip(module)
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("these tests don't run from a source tree")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("mpkernel-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (shared,) = {name.split("/")[0] for name in names if ".data/" in name}
        for file in sorted(files(kernelspec.DATA)):
            original = (kernelspec.DATA / file).read_bytes()
            assert archive.read(f"{shared}/data/share/jupyter/kernels/mpkernel/{file}") == original
            assert archive.read(f"mpkernel/data/kernelspec/{file}") == original
        (entry_points,) = (name for name in names if name.endswith("/entry_points.txt"))
        assert "mpkernel = mpkernel.cli:main" in archive.read(entry_points).decode()
