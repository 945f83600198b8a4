"""What is learned, as per-token weights. The trainer minimises -sum(weight * log p) and knows no more.

| name     | weight of a target token         | source                               |
|----------|----------------------------------|--------------------------------------|
| language | 1 / targets of the whole batch   | next-token prediction                |
| sft      | the same, over assistant tokens  | loss flags of the chat renderer      |

The flags are in the data (a target without loss is -100), so the two differ in their data and their metrics.
"""

from dokja.train.objectives.language import Language
from dokja.train.objectives.sft import Sft

OBJECTIVES = {"language": Language, "sft": Sft}

__all__ = ["OBJECTIVES", "Language", "Sft"]
