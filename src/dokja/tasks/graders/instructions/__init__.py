"""Instructions that a program can check. Each check is a function of the response and the instruction's arguments.

| file | checks |
|---|---|
| prose.py | words, sentences, paragraphs, syllables, scripts and languages |
| ifeval.py | the 25 of IFEval (Zhou et al., arXiv:2311.07911) |
| counts.py, words.py, shapes.py, tasks.py | the 58 of IFBench (Pyatkin et al., arXiv:2507.02833) |
| korean.py | Korean ones, under `ko:` |
| follow.py | the grader: strict or loose, one or all |

Written from the papers' descriptions of the instructions and checked against the published verdicts; where the official
checkers use NLTK, langdetect, syllapy or emoji, rules of our own stand here (prose.py says which).
"""
