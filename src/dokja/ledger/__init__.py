"""Run folders, manifests, the hash chain, metrics and cost. Nothing here loads torch."""
