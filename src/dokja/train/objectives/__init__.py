"""What is learned, as per-token weights. The trainer minimises -sum(weight * log p) and knows no more.

| names                                          | weight of a target token                                   |
|------------------------------------------------|------------------------------------------------------------|
| language                                       | 1 / targets of the whole batch                             |
| sft                                            | the same; its targets are what the assistant says          |
| dpo ipo simpo orpo kto simper grouper          | -dL/dlogp of the formula in `preference`, over own answers |
| rloo grpo dr_grpo dapo gspo cispo              | -dL/dlogp of the formula in `policy`, over own answers     |
| agapo_sequence agapo_token                     |                                                            |

docs/objectives.md has every formula with its source, a row each.
"""

from dokja.train.objectives.language import Language
from dokja.train.objectives.sft import Sft

OBJECTIVES = {"language": Language, "sft": Sft}

__all__ = ["OBJECTIVES", "Language", "Sft"]
