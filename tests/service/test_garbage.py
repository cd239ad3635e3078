"""What the collector of cycles walks through, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

_SETTLED = """
import gc, weakref
from service import garbage

class Node:
    pass

def cycle():
    node = Node()
    node.itself = node
    return weakref.ref(node)

gc.disable()
early = cycle()
kept = Node()
garbage.settle()
assert early() is None
assert gc.get_freeze_count() > 1000
assert not any(kept is one for one in gc.get_objects())
assert gc.get_threshold()[0] == garbage.YOUNG

# what was frozen and is let go is freed by the next
kept.itself = kept
late, kept = weakref.ref(kept), None
gc.collect()
assert late() is not None
garbage.settle()
assert late() is None
"""


def test_settling_frees_cycles_and_leaves_the_rest_alone() -> None:
    done = subprocess.run([sys.executable, "-c", _SETTLED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
