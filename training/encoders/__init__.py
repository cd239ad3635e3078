"""Frozen encoders behind one small interface: a config in, an `Encoder` out."""

from training.encoders.config import EncoderConfig
from training.encoders.encoder import Encoder
from training.encoders.load import load_encoder

__all__ = ["Encoder", "EncoderConfig", "load_encoder"]
