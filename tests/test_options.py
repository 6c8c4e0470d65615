"""The kernel's options, before there is a kernel."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from traitlets.config import SingletonConfigurable

from mpkernel import options
from mpkernel.errors import StartError

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for variable, folder in {"HOME": "home", "JUPYTER_CONFIG_DIR": "config", "IPYTHONDIR": "ipython"}.items():
        monkeypatch.setenv(variable, str(tmp_path / folder))
    yield
    SingletonConfigurable.clear_instance()


@pytest.mark.parametrize("argument", ["-h", "--help", "--help-all"])
def test_help_is_printed(argument: str) -> None:
    command = [sys.executable, "-m", "mpkernel", argument]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for option in ("--interrupt-target", "--profile-dir", "--keyfile"):
        assert option in done.stdout
    assert ("--InteractiveShell.ast_node_interactivity" in done.stdout) == (argument == "--help-all")


def test_an_option_that_is_not_known_is_warned_of_once(capfd: pytest.CaptureFixture[str]) -> None:
    options.load(["--MPKernelApp.nonsense=3", "--IPKernelApp.ip=127.0.0.1"])
    assert capfd.readouterr().err.count("`nonsense` not recognized") == 1


def test_a_word_that_is_not_known_ends_the_start() -> None:
    with pytest.raises(StartError, match=r"^--kep is no flag; .*--help-all"):
        options.load(["--kep"])


def test_a_configuration_file_with_an_error_ends_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))
    path = tmp_path / f"{options.CONFIG_NAME}.py"
    path.write_text("c.MPKernelApp.keep = True")
    assert options.load([]).keep
    path.write_text("c.MPKernelApp.keep = = True")
    with pytest.raises(StartError, match=rf"{options.CONFIG_NAME} in {tmp_path} can't be loaded: "):
        options.load([])


def test_what_was_taken_from_ipykernels_options_is_not_handed_on() -> None:
    ours = ["--IPythonKernel.help_links=[]", "--Kernel.stop_on_error_timeout=0.5"]
    shells = ["--IPythonKernel.use_experimental_completions=False", "--IPKernelApp.capture_fd_output=False"]
    app = options.load([*ours, *shells])
    assert (app.help_links, app.stop_on_error_timeout) == ([], 0.5)
    config = app.shell_config()
    assert {name: set(config[name]) for name in options.THEIR_SECTIONS} == {
        "IPythonKernel": {"use_experimental_completions"},
        "IPKernelApp": {"capture_fd_output"},
        "Kernel": set(),
    }


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--nonsense=3"], "'nonsense'"),
        (["--nonsense"], "--nonsense"),
        (["nonsense"], "unexpected argument 'nonsense'"),
        (["--MPKernelApp.nonsense=3"], "`nonsense`"),
        (["--InteractiveShell.nonsense=3"], "InteractiveShell has no option 'nonsense'"),
        (["--Kernel.nonsense=3"], "Kernel has no option 'nonsense'"),
        (["--MPKernelApp.reader_patience=long"], "reader_patience"),
        (["--kep"], "--kep is no flag"),
    ],
    ids=str,
)
def test_a_mistake_in_what_is_noted_down_is_an_error(argv: list[str], said: str) -> None:
    with pytest.raises(StartError, match=r"--help-all") as caught:
        options.check(argv)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "argv",
    [
        ["--debug", "--keep", "--interrupt-target=all", "--pylab", "-c", "x = 1", "--no-pprint"],
        ["--IPKernelApp.exec_lines=x = 1", "--IPythonKernel.help_links=[]", "--Session.key=b'k'"],
        ["--InteractiveShell.ast_node_interactivity=all", "--HistoryManager.enabled=False"],
        ["--SomeExtension.option=1", "--InlineBackend.rc={}"],
    ],
    ids=str,
)
def test_what_some_part_of_the_kernel_knows_is_none(argv: list[str]) -> None:
    options.check(argv)


def test_each_option_of_our_own_is_documented() -> None:
    page = (REPOSITORY / "docs" / "configuration.md").read_text()
    app = options.MPKernelApp()
    own = app.class_own_traits(config=True).keys() - {"parent_handle"}
    spelled = {f"MPKernelApp.{name}": {f"MPKernelApp.{name}"} for name in own}
    for names, trait in app.aliases.items():
        for name in [names] if isinstance(names, str) else names:
            spelled.get(trait, set()).add(f"{'-' if len(name) == 1 else '--'}{name}")
    for name, (settings, _) in app.flags.items():
        for option in settings.get("MPKernelApp", {}):
            spelled[f"MPKernelApp.{option}"].add(f"--{name}")
    missing = {option for option, ways in spelled.items() if not any(f"`{way}" in page for way in ways)}
    assert missing == set()


class TestAProfile:
    @pytest.mark.parametrize(
        ("argv", "remedy"),
        [
            (["--profile", "nosuch"], "ipython profile create nosuch"),
            (["--IPKernelApp.profile=nosuch"], "ipython profile create nosuch"),
            (["--profile-dir", "/nosuch"], "ipython profile create --profile-dir=/nosuch"),
        ],
        ids=str,
    )
    def test_that_is_not_there_is_an_error_with_its_remedy(self, argv: list[str], remedy: str) -> None:
        with pytest.raises(StartError, match=rf"not found; make it with: {remedy}$"):
            options.load(argv)

    def test_is_found_where_ipython_looks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "ipython" / "profile_one").mkdir(parents=True)
        (tmp_path / "home" / ".ipython" / "profile_two").mkdir(parents=True)
        options.load(["--profile", "one"])
        options.load(["--profile", "two", "--ipython-dir", str(tmp_path / "home" / ".ipython")])
        options.load(["--profile-dir", "~/.ipython/profile_two"])
        monkeypatch.delenv("IPYTHONDIR")
        options.load(["--profile", "two"])

    def test_is_made_if_that_is_wanted(self) -> None:
        options.load(["--profile", "new", "--BaseIPythonApplication.auto_create=True"])
