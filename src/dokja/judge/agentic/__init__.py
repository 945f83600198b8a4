"""Running agents' tasks: conversations in, records out, over our engine, an endpoint, or the official actions."""
