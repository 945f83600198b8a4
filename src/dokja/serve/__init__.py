"""The server: an API that OpenAI clients speak, in front of an engine process. `serve.worker` alone loads torch."""
