"""Runs between fork and the real program, so that no child outlives its supervisor: ``launch.py PARENT_PID ARGV...``.

A program of its own and not ``preexec_fn``: that would run Python between fork and exec in a process that has
threads (librdkafka's, the health checks'), which can deadlock. It is run with ``-I -S``, so it imports nothing of ours.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Tie this process to its parent, then become the program.

    The kernel sends the signal when the parent's *thread* that spawned us ends: spawn from a thread that lasts.
    """
    parent_pid, argv = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:  # it died before the call above
            sys.exit(os.EX_TEMPFAIL)
    # A parent that waits for signals blocks them, and a child inherits the mask.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        print(f"cannot start {argv[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(os.EX_CONFIG)


if __name__ == "__main__":
    main()
