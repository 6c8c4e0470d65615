"""The suite that Jupyter has for kernels of any language, with all its optional parts.

It starts kernels by the name of a kernelspec, through the environment of the test process; so that is what the
sandbox becomes here.
"""

from __future__ import annotations

import os
import unittest
from typing import Any, ClassVar
from unittest import mock

import jupyter_kernel_test  # type: ignore[import-untyped]

from .driver import KERNEL, KERNELSPEC, install_kernelspec
from .sandbox import Sandbox


class InSandbox(unittest.TestCase):
    """Gives a suite's kernel a sandbox, and checks that nothing is left in it."""

    kernel_name = KERNELSPEC
    km: Any
    sandbox: ClassVar[Sandbox]

    @classmethod
    def setUpClass(cls) -> None:
        cls.sandbox = cls.enterClassContext(Sandbox())
        install_kernelspec(cls.sandbox.data)
        cls.enterClassContext(mock.patch.dict(os.environ, cls.sandbox.environment(), clear=True))
        super().setUpClass()

    @classmethod
    def tearDownClass(cls) -> None:
        super().tearDownClass()
        cls.km.cleanup_resources()
        left = cls.sandbox.leftovers()
        assert KERNEL == "ipykernel" or left == [], left


class TestKernel(InSandbox, jupyter_kernel_test.KernelTests):  # type: ignore[misc]
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples: ClassVar[list[dict[str, Any]]] = [
        {"text": "zi", "matches": {"zip"}},
        {"text": "import thre", "matches": {"threading"}},
        {"text": "sys.no_such_attribute_at_a", "matches": set()},
    ]
    complete_code_samples: ClassVar[list[str]] = ["1", "print('hello')", "def f(x):\n  return x*2\n\n\n", "%time 1"]
    incomplete_code_samples: ClassVar[list[str]] = ["print('''hello", "def f(x):\n  x*2", "(", "%%timeit"]
    invalid_code_samples: ClassVar[list[str]] = ["import = 7q", "1 1", ")"]
    code_page_something = "zip?"
    code_generate_error = "raise ValueError('generated')"
    code_execute_result: ClassVar[list[dict[str, str]]] = [
        {"code": "1+2+3", "result": "6"},
        {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]"},
    ]
    code_display_data: ClassVar[list[dict[str, str]]] = [
        {"code": "from IPython.display import HTML, display; display(HTML('<b>test</b>'))", "mime": "text/html"},
        {"code": "from IPython.display import Math, display; display(Math('\\\\frac{1}{2}'))", "mime": "text/latex"},
    ]
    code_history_pattern = "1?2*"
    # Not "range": the suite wants the session's number back, where IPython calls the running session 0.
    supported_history_operations = ("tail", "range", "search")
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"


class TestIopubWelcome(InSandbox, jupyter_kernel_test.IopubWelcomeTests):  # type: ignore[misc]
    support_iopub_welcome = KERNEL == "mpkernel"  # ipykernel may say "starting" first
