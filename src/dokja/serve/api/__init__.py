"""HTTP: the API that OpenAI's clients speak, one file per path."""
