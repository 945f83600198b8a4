"""dokja: a foundation model of your own, from empty weights to a judged, chatting release.

Importing this package loads nothing heavy; `tests/test_house.py` holds it to that.
"""

__version__ = "0.1.0"
