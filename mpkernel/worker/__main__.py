"""``python -m mpkernel.worker``: a spawned worker; its settings come, pickled, on standard input."""

import pickle
import sys

from mpkernel.worker.process import run
from mpkernel.worker.template import Template

if __name__ == "__main__":
    _settings, _worker = pickle.load(sys.stdin.buffer)
    run(Template(_settings), _settings, _worker)
