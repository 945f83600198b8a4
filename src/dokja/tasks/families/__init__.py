"""Twelve families, one file each. Every trace obeys the same rules, so that a small network can write each token from a
few earlier ones and a small table:

- `①②③…` number the steps: the model always sees where it is.
- Digits are single tokens; sums are one digit, or two digits plus one digit, or two digits plus tens; carries are
  shown.
- `a>b` reads "a becomes b" (a remainder, a running count, a clock going round).
- The trace ends in the answer. Both languages use the same symbols.
- What is worked on stands at the end of the prompt wherever the sentence allows, a fixed distance from the trace.
"""
