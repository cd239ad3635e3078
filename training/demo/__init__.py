"""The built-in corpus of captioned scenes and the small encoders trained on it."""
