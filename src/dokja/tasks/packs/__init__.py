"""Benchmark packs: a folder with `pack.json`, and data that is shipped, given by a path, or fetched from a hub.

| file | holds |
|---|---|
| definition.py | `pack.json` read and checked |
| place.py | where the data of a pack lies, and what to do where it does not |
| rows.py | data files to rows |
| readers.py | rows to questions and references |
| load.py | `load_pack`: a name in, problems and their tasks out |
| long.py | long contexts made from seeds: needles, RULER-style tasks, in both languages |
| definitions/ | a `pack.json` for every benchmark that the published tables name |
| core/ | our own suite `core-ko-en`, shipped with its data |
| licences.toml | pass rules of licence exams |
"""
