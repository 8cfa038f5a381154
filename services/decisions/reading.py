"""What every section of a policy is read with: its vocabulary, its conditions, its reasons, its names."""

from __future__ import annotations

import re

from services.decisions.document import Section
from services.decisions.expression import Condition, ExpressionError, condition
from services.decisions.mistakes import shown
from services.decisions.precedence import RESERVED_CODES
from services.decisions.verdict import ACTIONS, Action, Reason
from services.decisions.vocabulary import Vocabulary

IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,59}")
NAME_REMEDY = "write small letters, digits and _, beginning with a letter, at most 60"


class Reader:
    """A policy under validation: what is wrong goes to the section's ``report``, and reading goes on."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    def condition(self, section: Section, key: str, remedy: str = "write a condition") -> Condition | None:
        """Read and compile the condition under ``key``; None when it is absent or wrong."""
        node = section.scalar(key, remedy)
        if node is None:
            return None
        try:
            return condition(node.text, self.vocabulary)
        except ExpressionError as error:
            for problem in error.problems:
                # Only a literal text keeps its lines; a folded one is one line to the reader of the message as well.
                below = node.text.count("\n", 0, problem.at) if node.literal else 0
                section.report(node.line + below, f"{section.what}: {problem.message}")
            return None

    def condition_if_any(self, section: Section, key: str) -> Condition | None:
        """Read a condition that may be left out."""
        return self.condition(section, key) if key in section.node.entries else None

    def reason(self, section: Section, name: str) -> Reason:
        """Read code and text of a reason; the code is ``name`` unless one is given."""
        code = section.pattern("code", IDENTIFIER, NAME_REMEDY, required=False) or name
        if code in RESERVED_CODES:
            key = "code" if "code" in section.node.entries else "name"
            section.report(section.line(key), f"code {shown(code)} is one of Weir's own reason codes; choose another")
        return code, section.text("reason", "write in one sentence what a person should read")

    def unique(self, section: Section, name: str, lines: dict[str, int], what: str) -> None:
        """Report a name that is declared a second time."""
        line = section.line("name")
        if name in lines:
            text = f"{what} {shown(name)} is declared a second time, first on line {lines[name]}; rename one"
            section.report(line, text)
        elif name:
            lines[name] = line


def action_named(text: str) -> Action:
    """The action of that name, which is one of them."""
    return next(action for action in ACTIONS if action == text)
