"""Problems with exact graders: bilingual generators, benchmarks, training and evaluation splits. No torch here.

| file | holds |
|---|---|
| problem.py | Problem, Grade, Task: what the other rooms see |
| families/ | twelve families, one file each |
| sight/ | nine families about images |
| registry.py | families and tasks of packs by name |
| splits.py | training and evaluation problems, disjoint by seed and by prompt |
| extract.py | finding and comparing the answer in what a model wrote |
| korean.py | particles, numerals, syllables |
| textbook.py | problems as plain text, for pretraining |
| packs/ | benchmarks: definitions, data, our own suite core-ko-en |
| graders/ | what grades them: choices, mathematics, programs, instructions, tools, ... |
| sandbox/ | where a program that a model wrote may run |
"""
