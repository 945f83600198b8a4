"""Models that answer over HTTP, as OpenAI's API has it: who they are, how they are asked, what they said."""
