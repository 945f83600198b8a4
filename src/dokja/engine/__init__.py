"""Inference: requests in, tokens with their logprobs out. `engine.api` needs no torch; the rest does."""
