"""Families whose question is about an image, drawn from the seed like the question itself.

| file | asks |
|---|---|
| howmany.py | how many red circles there are |
| colours.py | which colour is most frequent, or the largest shape's |
| digits.py | which number is written |
| hangul.py | which syllables are written |
| bars.py | the highest bar of a chart, a bar's value, a difference |
| polygons.py | what kind of polygon it is |
| larger.py | which of two shapes is larger |
| where.py | left, right, above, below; the outermost of several |
| parallel.py | whether two lines are parallel |

`canvas.py` draws (Pillow, the extra `vision`), `names.py` holds words and answers, `base.py` what the families share,
`fonts/` two subsets of free fonts (OFL) with their licence. `tasks = ["sight"]` in a recipe stands for all of them;
`all` does not, since a model without a vision tower cannot be asked.

Levels raise the number of things, tilt, noise and likeness. Traces are short: what is seen, in reading order or in the
question's order, each with a step's mark, then `>` and the answer.
"""
