"""The README beside SAELens views: what they are and, plainly, what they are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.interchange.saelens import View

_CARD = """\
---
library_name: saelens
tags:
- sparse-autoencoder
- koine
---

# Streams of an aligned dictionary, one autoencoder each

{num_concepts:,} concepts, k {k}. The streams were trained together by Koine, method `{method}`:
row i of `W_dec` stands for the same concept in every folder here.

```
from sae_lens import SAE
sae = SAE.load_from_disk("{first}")
codes = sae.encode(activations)      # pooled activations as the encoder gives them, not normalised
```

## What these are

{what}

- **Independent encodings only.** Each stream selects its own k concepts. Koine's joint encoding,
  where an item's streams select one support together, cannot be said in this format.
- Inputs are one pooled vector an item, brought to norm √d_in inside (`constant_norm_rescale`);
  `decode` gives activations of the input's own norm. A vector of zeros has no direction: SAELens
  makes NaN of it, Koine does not.
- No names, profile, evidence or hashes of the artifact are in these folders.

## Checked on held-out items

| folder | items | support Jaccard with the stream's codes | values apart by | fvu | stream's fvu |
|---|---|---|---|---|---|
{rows}

Activation store sha256:{store}.
"""
_EXACT = """\
The codes are those that Koine serves for the stream alone: concept i fires here where it fires
there."""
_PRE_CODES = """\
**These are not the codes that Koine serves.** There a selector scores concepts in a space that the
streams share, and the values are refined; neither can be said in this format. Here the k largest
pre-codes are taken as they are, which agrees with the served codes as far as the table says."""


def view_card(views: Sequence[View], record: Mapping[str, Any]) -> str:
    """The Markdown text."""
    first = views[0]
    return _CARD.format(
        num_concepts=first.config["d_sae"],
        k=first.config["k"],
        method=record["method"],
        first=first.stream,
        what=_EXACT if first.exact else _PRE_CODES,
        rows="\n".join(_row(view) for view in views),
        store=record["store_fingerprint"],
    )


def _row(view: View) -> str:
    a = view.agreement
    return (
        f"| `{view.stream}` | {a.items:,} | {a.jaccard:.4f} | {a.error:.1e} | {a.fvu:.3f} | "
        f"{a.stream_fvu:.3f} |"
    )
