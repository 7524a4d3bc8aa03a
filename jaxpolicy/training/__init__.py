"""Training: configuration, the loop, checkpoints and what is made from them."""
