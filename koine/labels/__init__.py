"""What people say of a dictionary's concepts: a versioned layer beside the artifact.

The artifact never changes, nor does its digest: labels that were verified, rejected or renamed
stand in a file of their own (`layer.py`), which `python -m koine labels` and the service write.
"""

from koine.labels.changes import Change, Edit, Shown, State
from koine.labels.events import label_event
from koine.labels.layer import LabelLayer, Labels

__all__ = ["Change", "Edit", "LabelLayer", "Labels", "Shown", "State", "label_event"]
