"""Our own suite `core-ko-en`: small, offline, written for this project. Every item has a second grader that agrees.

| part | items | made by | second grader |
|---|---|---|---|
| choice | 28 + 28 | hand | a second reading with shuffled options, kept as `second` |
| maths | 24 + 24 | csat.py | another way to compute the same answer, in the same file |
| follow | 20 + 20 | hand | an answer that follows and one that does not, kept beside |
| code | 20 + 20 | hand | a second solution that passes the tests, a wrong one that fails |
| tools | 24 + 24 | tools.py | the calls carried out: they reach the state asked for |
| long | 28 + 28 | `packs.long` | the answer found by search in the text |
| safety | 20 + 20 | hand | a good and a bad answer, kept beside |

Korean and English items of maths, code and tools are the same ones in two languages, so that a difference is one of
language alone.
"""
