"""The facets that are streams of random numbers: Python's, numpy's, torch's."""

from __future__ import annotations

import _random
import ctypes
import importlib
import random
import sys
from typing import Any

from mpkernel.namespace.process_state import Facet, Items

_MT19937_BYTES = 625 * 4  # numpy's generator: 624 numbers, and which is the next one


class RandomNumbers(Facet):
    name = "random"
    draws = True

    def read(self) -> Items:
        return {"": random.getstate()}

    def mark(self) -> Any:
        """What the generator has in memory, but for what every object has: its numbers, and which is the next one."""
        generator: Any = random._inst
        head = object.__basicsize__
        return generator.gauss_next, ctypes.string_at(id(generator) + head, _random.Random.__basicsize__ - head)

    def write(self, items: Items) -> None:
        random.setstate(items[""])

    def fork(self) -> None:
        random.seed()


class NumpyRandomNumbers(Facet):
    name = "numpy.random"
    library = "numpy"
    draws = True

    def read(self) -> Items | None:
        if (numpy_random := sys.modules.get("numpy.random")) is None or not hasattr(numpy_random, "get_state"):
            return None
        kind, key, *rest = numpy_random.get_state()
        return {"": (kind, key.tobytes(), *rest)}

    def mark(self) -> Any:
        """What the generator has in memory. The second of two normal numbers is drawn already, and kept elsewhere."""
        numpy_random = sys.modules["numpy.random"]
        generator = numpy_random.get_bit_generator()
        if type(generator) is not numpy_random.MT19937 or numpy_random.get_state(legacy=False)["has_gauss"]:
            return None
        return self._memory()

    def is_marked(self, mark: Any) -> bool:
        return bool(mark == self._memory())

    @staticmethod
    def _memory() -> tuple[int, bytes]:
        address = sys.modules["numpy.random"].get_bit_generator().ctypes.state_address
        return address, ctypes.string_at(address, _MT19937_BYTES)

    def prepare(self) -> None:
        if "numpy" in sys.modules:  # whose `random` is imported when it is used
            importlib.import_module("numpy.random")

    def write(self, items: Items) -> None:
        import numpy as np

        kind, key, *rest = items[""]
        np.random.set_state((kind, np.frombuffer(key, dtype=np.uint32), *rest))

    def fork(self) -> None:
        import numpy as np

        np.random.seed()


class TorchRandomNumbers(Facet):
    name = "torch.random"
    library = "torch"
    draws = True

    def read(self) -> Items | None:
        if (torch := sys.modules.get("torch")) is None or not hasattr(torch, "get_rng_state"):
            return None
        return {"": torch.get_rng_state().numpy().tobytes()}

    def write(self, items: Items) -> None:
        torch = importlib.import_module("torch")
        torch.set_rng_state(torch.frombuffer(bytearray(items[""]), dtype=torch.uint8))

    def fork(self) -> None:
        importlib.import_module("torch").seed()
