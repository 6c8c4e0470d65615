"""``python -m mpkernel -f CONNECTION_FILE`` runs a kernel; with the words of the command line it is ``mpkernel``."""

import sys

if __name__ == "__main__":
    # The first word of a kernel's command line is always an option.
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        from mpkernel.cli import main

        sys.exit(main())
    else:
        from mpkernel.launch import run

        run()
