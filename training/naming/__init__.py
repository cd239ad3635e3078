"""Names for concepts: which words fit where a concept fires and which way it points."""
