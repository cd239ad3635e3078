"""The words of the model card; knows no dictionary."""

from __future__ import annotations

CARD = """\
---
{front}---

# {title}

**{num_concepts:,} concepts that {num_streams} stream(s) share** ({names}). An item's activations
become a sparse code of at most {k} concepts in each stream, and concept i means the same whichever
stream it came from. Made by Koine, method `{method}`. Data only: ONNX graphs, safetensors, JSON;
no code, no pickle. Every file's SHA-256 stands in `manifest.json`.

## Intended use

- Say in words what a frozen encoder represents of an item, and where two encoders differ.
- Watch what a stream of items shows for drift, against the profile in here.
- Find items of one stream by another's: text finds images through an encoder that never saw text.

## Not for

- **Decisions about people.** Concepts are what encoders respond to, not facts about who is shown.
- **Other weights of the same name.** Codes have their meaning only with the encoders whose hashes
  stand below; activations of others are encoded without complaint and mean nothing.
- **Reading joint overlap as agreement.** Joint codes share one support per item by construction; an
  untrained dictionary agrees with itself as well. Only the independent figures say how far streams
  agree, and a stream that is served alone always encodes independently.
- **Taking a label for the truth.** A `proposed` label is a program's guess; only `verified` ones
  were looked at by a person.

## Streams

| stream | reads | width | encoder | weights | licence | normalisation |
|---|---|---|---|---|---|---|
{streams}

Selection, independent: `{independent}`; joint: `{joint}`. The artifact's licence follows from those
of its encoders and its training data, which Koine does not know: it says `license: unknown` above.

## Training data

Items of the training split, encoded independently.

| stream | items | concepts that fire | active per item | mean fvu |
|---|---|---|---|---|
{profile}

What they show is not in here. Concepts are those of this data: what it lacks, the dictionary lacks.

## Figures

{figures}

{smaller}## Concepts

{concepts}

## Limits

- Concepts are found by an optimiser, not defined: another seed gives others.
- What is lost: the fvu figures above say how much of each stream no code explains.
- Text is cut at the encoder's context length; images are resized and cropped as the manifest says.

## Use

```
python -m koine inspect DIR        what this is; DIR may be hf://owner/name[@revision]
python -m koine verify DIR         that every byte is as exported
python -m koine encode DIR photo.jpg captions.txt --out codes.parquet
KOINE_ARTIFACT=DIR bentoml serve service.app:ConceptService
```

```python
from koine.artifact import Artifact
from koine.encoder import ConceptEncoder

encoder = ConceptEncoder(Artifact.open("DIR"))
codes = encoder.encode({{"{first}": activations}})["{first}"]  # float32 [N, {d_in}]
```

## Where it comes from

{provenance}

The method follows SPARC, arXiv 2507.06265.
"""

FIGURES = """\
Held-out items; keys and definitions as in the run's `report.json`. The first column is what counts.

| figure | independent | joint |
|---|---|---|"""
