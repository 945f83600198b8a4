"""Documents in, batches out: sources -> token shards -> packed rows -> a loader, pure in (seed, step).

| file | what it holds |
|---|---|
| sources.py | a person's `.txt .jsonl .jsonl.zst .parquet` files as a stream of texts or conversations |
| shards.py | tokenised documents on disk: hashed while written, verified when opened, memory-mapped |
| packing.py | documents laid into rows of `seq_len` slots, an epoch at a time |
| mixture.py | which source a global row comes from |
| batch.py | rows -> tokens, targets and document numbers |
| loader.py, prefetch.py | `batch(step, rank, world)`, and the same one step ahead in a thread |
| shuffle.py | seeded permutations that do not depend on numpy's version |
"""
