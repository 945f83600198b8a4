"""Answers that the model in training writes, their rewards, and the batches made of them."""
