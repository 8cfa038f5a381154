"""The word that a view with labels keeps of an event: its identity's tag above four bits.

A kept event's word holds its label. Among the entries of the stored log the same word, marked ``IS_LABEL``, says that a
label came later for an event that stands before it.
"""

from __future__ import annotations

from typing import Final, Literal

Label = Literal["fraud", "genuine"]

# 59 + 4 bits stay below the sign of a 64-bit number; two events of one entity in one millisecond will not share a tag.
TAG_BITS: Final = 59
TAG_MASK: Final = (1 << TAG_BITS) - 1
TAG_SHIFT: Final = 4

LABEL_BITS: Final = 0b0011  # 0: no label yet
LABEL_CODE: Final[dict[Label, int]] = {"genuine": 1, "fraud": 2}
LABEL_OF_CODE: Final[dict[int, Label]] = {code: label for label, code in LABEL_CODE.items()}
IS_LABEL: Final = 0b0100
IS_REVISION: Final = 0b1000
