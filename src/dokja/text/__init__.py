"""Unicode, tokenizer training and encoding, the chat contract (render and parse). Imports no torch."""
