"""Puts the repository root on the path so that tests can import ``tests.support``, and offers the profile of CI."""

import signal
import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

collect_ignore_glob = ["tests/deploy/observability/broken/*", "tests/support/pretend_kubectl.py"]
"""Programs of other processes: what the former import is broken on purpose, the latter needs its environment."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts tests in the background has them ignore Ctrl-C, and every process that they start as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("same", derandomize=True)
"""``--hypothesis-profile same``: the same examples every time. Without it every run looks at new ones."""
