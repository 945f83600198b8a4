"""Graders of benchmark packs: a reference and an answer in, a Grade or None out. No torch, no network.

| file | grades |
|---|---|
| base.py | what a grader is, and how None becomes unparseable, truncated or refused |
| choice.py | multiple choice, with Korean forms |
| maths.py, latex.py, parts.py | numbers and formulas: exact, normalised, numeric, part by part, then math-verify |
| verify.py, verify_worker.py | math-verify in processes that may be killed |
| code.py | programs, by their tests, in the sandbox |
| instructions/ | instructions that a program can check (IFEval, IFBench, Korean ones) |
| tools.py | calls of tools |
| text.py | strings that must be there, whole answers |
| safety.py | declining what should be declined, and nothing else |
| judged.py | answers that only a model can judge: the prompt, and how its verdict is read |
| exams.py | pass rules of licence exams |
| agreement.py | several graders beside each other |
| registry.py | the graders by name |
"""
