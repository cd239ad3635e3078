"""Small students of large encoders: they predict a stream's activations, so its codes stay."""
