"""``refusing.py NUMBERS COMMAND…``: run a command to which the system calls of these numbers are forbidden (EPERM).

As a container's seccomp profile does it: https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, FILTER_MODE = 22, 38, 2
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # BPF; the number is the first word of struct seccomp_data
ALLOW, REFUSE = 0x7FFF0000, 0x00050001

numbers = [int(number) for number in sys.argv[1].split(",")]
program = [
    (LOAD_NUMBER, 0, 0, 0),
    *((JUMP_IF_EQUAL, len(numbers) - index, 0, number) for index, number in enumerate(numbers)),
    (RETURN, 0, 0, ALLOW),
    (RETURN, 0, 0, REFUSE),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
filters = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
libc = ctypes.CDLL(None)
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, FILTER_MODE, ctypes.c_char_p(filters)):
    sys.exit("seccomp filters are not to be had here")
os.execv(sys.argv[2], sys.argv[2:])
