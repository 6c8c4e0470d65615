"""The same cells on two kernels, and what differs between the messages that come back. See ``__main__``."""
