"""From a policy's document to its declaration: every key asked for, every condition compiled, every mistake kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.decisions import limits
from services.decisions.check import mistakes_in
from services.decisions.declared import ActingList, Declaration, Rule, Season, Thresholds
from services.decisions.definitions import circle, circle_text, expanded, names_in
from services.decisions.document import Mapping, Node, Scalar, Section
from services.decisions.document import Sequence as Items
from services.decisions.expression import Condition, ExpressionError, condition
from services.decisions.functions import FUNCTIONS
from services.decisions.mistakes import Mistake, shown, suggest
from services.decisions.reading import IDENTIFIER, NAME_REMEDY, Reader, action_named
from services.decisions.syntax import Node as Tree
from services.decisions.syntax import parse
from services.decisions.tokens import WORDS, ExpressionProblem
from services.decisions.verdict import ACTIONS
from services.decisions.vocabulary import EVENT_TEXTS, FEATURE_STATUSES, TextList, Type, payments_vocabulary

RULES_MAX = 1_000
LIST_VALUES_MAX = 100_000
DEFINITIONS_MAX = 200

POLICY_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")


def declaration(root: Node, feature_names: Sequence[str], mistakes: list[Mistake]) -> Declaration:
    """Read a whole policy; what is wrong is added to ``mistakes``, and the result is of use only if there are none."""

    def report(line: int, text: str) -> None:
        mistakes.append(Mistake(line, text))

    if not isinstance(root, Mapping):
        report(root.line, "the policy is not a mapping; start with `name: ...` and see schemas/payments/policy.yaml")
        root = Mapping(root.line, {}, {})
    return _Loader(Section(root, "the policy", report), feature_names).declaration()


@dataclass(frozen=True, slots=True)
class _ListEntry:
    """A list on its way: what conditions need to know, and its effect if it acts."""

    texts: TextList
    acting: ActingList | None


class _Loader:
    def __init__(self, policy: Section, feature_names: Sequence[str]) -> None:
        self.policy = policy
        self.report = policy.report
        self.reader = Reader(payments_vocabulary(feature_names, {}))
        self.rule_lines: dict[str, int] = {}

    def declaration(self) -> Declaration:
        policy = self.policy
        name = policy.pattern(
            "name", POLICY_NAME, "write small letters, digits and . _ -, at most 40, such as 2026-11", required=True
        )
        description = policy.text("description", characters_max=2_000)
        owner = policy.text("owner", "write who answers for this policy")
        lists = self.lists()
        texts = {entry.texts.name: entry.texts for entry in lists}
        self.reader.vocabulary = replace(self.reader.vocabulary, lists=texts)
        self.define()
        segments = limits.segments(policy, self.reader)
        rules = self.rules(policy, Season.ALWAYS)
        bootstrap = policy.section(
            "bootstrap", "write `bootstrap:` and below it `rules:` for the time before the first model, or `rules: []`"
        )
        if bootstrap:
            rules += self.rules(
                bootstrap, Season.BOOTSTRAP, "write the rules that decide without a model, or `rules: []`"
            )
            bootstrap.close()
        fallback, statuses, fallback_rules = self.fallback(segments[-1])
        passthrough = limits.passthrough(policy, self.reader, name)
        control = limits.control(policy, self.reader, name)
        review = limits.review(policy, self.reader)
        fuse = limits.fuse(policy)
        approval = policy.choice("approval", ("one_person", "two_people"))
        policy.close()
        return Declaration(
            name=name,
            description=description,
            owner=owner,
            lists=tuple(entry.acting for entry in lists if entry.acting),
            rules=tuple(rules + fallback_rules),
            segments=segments,
            fallback=fallback,
            fallback_statuses=statuses,
            passthrough=passthrough,
            control=control,
            review=review,
            fuse=fuse,
            two_people=approval == "two_people",
        )

    def lists(self) -> list[_ListEntry]:
        section = self.policy.section("lists")
        if section is None:
            return []
        entries: list[_ListEntry] = []
        for name, node in section.node.entries.items():
            section.asked.add(name)
            line = section.line(name)
            if not IDENTIFIER.fullmatch(name):
                self.report(line, f"list is named {shown(name)}; {NAME_REMEDY}")
            elif name in self.reader.vocabulary.columns or name in FUNCTIONS or name in WORDS:
                self.report(line, f"list {shown(name)} has the name of a column, function or word; name it otherwise")
            if isinstance(node, Items):
                entries.append(_ListEntry(TextList(name, None, self.values(name, node.items)), None))
            elif isinstance(node, Mapping):
                entries.append(self.list_entry(name, Section(node, f"list {shown(name)}", self.report, line)))
            else:
                self.report(line, f"list {shown(name)} is a single value; write [first, second], or values: below it")
                entries.append(_ListEntry(TextList(name, None, frozenset()), None))
        return entries

    def list_entry(self, name: str, section: Section) -> _ListEntry:
        effect = section.choice("effect", ("block", "allow"))
        acts = "effect" in section.node.entries  # even if the effect is misspelt: its reason is no unknown key then
        remedy = "write which column is looked up in it, such as of: terminal_id" if acts else ""
        field = section.choice("of", EVENT_TEXTS, remedy)
        section.text("description")
        texts = TextList(name, field or None, self.values(name, section.items("values", "write values: [...]")))
        acting = None
        if acts:
            reason = self.reader.reason(section, name)
            acting = ActingList(texts, field, "block" if effect == "block" else "allow", reason)
        section.close()
        return _ListEntry(texts, acting)

    def values(self, name: str, nodes: Sequence[Node]) -> frozenset[str]:
        """Read a list's values as texts, exactly as written."""
        if len(nodes) > LIST_VALUES_MAX:
            self.report(nodes[0].line, f"list {shown(name)} has {len(nodes)} values; {LIST_VALUES_MAX} are allowed")
        first: dict[str, int] = {}
        for node in nodes:
            if not isinstance(node, Scalar) or node.null:
                self.report(node.line, f"list {shown(name)} holds something that is not a text; write one id an item")
            elif not node.text or node.text != node.text.strip() or not node.text.isprintable():
                self.report(node.line, f"list {shown(name)} holds {node.text!r}; remove spaces and control characters")
            elif node.text in first:
                here = f"list {shown(name)} holds {shown(node.text)} twice"
                self.report(node.line, f"{here}, first on line {first[node.text]}; keep one")
            else:
                first[node.text] = node.line
        return frozenset(first)

    def fallback(self, default: Thresholds) -> tuple[Thresholds, frozenset[str], list[Rule]]:
        section = self.policy.section(
            "fallback", "write `fallback:` and below it stricter `thresholds:` for when features are out of reach"
        )
        if section is None:
            return Thresholds("fallback"), frozenset(), []
        statuses = self.statuses(section)
        thresholds = Thresholds("the fallback section")
        inner = section.section("thresholds", "write thresholds stricter than the default's")
        if inner:
            thresholds = limits.thresholds(inner, "the fallback section", None)
            inner.close()
            limits.stricter(inner, thresholds, default)
        rules = self.rules(section, Season.FALLBACK)
        section.close()
        return thresholds, statuses, rules

    def statuses(self, section: Section) -> frozenset[str]:
        known = FEATURE_STATUSES[1:]
        statuses: set[str] = set()
        for node in section.items("applies_to", "write applies_to: [fallback, stale]"):
            text = node.text if isinstance(node, Scalar) else ""
            if text not in known:
                self.report(node.line, f"applies_to of fallback holds {shown(text)}{suggest(text, known)}")
            statuses.add(text)
        if statuses <= set(known) and "fallback" not in statuses and "applies_to" in section.node.entries:
            self.report(section.line("applies_to"), "applies_to of fallback leaves out fallback itself; add it")
        return frozenset(statuses)

    def rules(self, section: Section, season: Season, remedy: str = "") -> list[Rule]:
        rules: list[Rule] = []
        for each in section.sections("rules", "rule", remedy):
            name = each.pattern("name", IDENTIFIER, NAME_REMEDY)
            self.reader.unique(each, name, self.rule_lines, "rule")
            when = self.when(each)
            action = each.choice("action", ACTIONS, "write approve, challenge, review or decline")
            reason = self.reader.reason(each, name)
            owner = each.text("owner")
            rate_remedy = "write the share of events that it should hit, above 0 and at most 1, such as 0.002"
            expected_rate = each.number("expected_rate", 1e-9, 1.0, rate_remedy)
            each.text("description", characters_max=2_000)
            each.close()
            if when and action:
                rules.append(Rule(name, when, action_named(action), reason, season, owner, expected_rate))
        if len(self.rule_lines) > RULES_MAX:
            self.report(section.line("rules"), f"more than {RULES_MAX} rules; join some or use lists")
        return rules

    def when(self, section: Section) -> Condition | None:
        """Read a rule's condition: `when`, or `velocity`, or both, which then have to hold together."""
        section.asked.add("velocity")
        if "velocity" not in section.node.entries:
            return self.reader.condition(section, "when", "write the condition under which it hits")
        fast = limits.velocity(section, self.reader.vocabulary.features)
        when = self.reader.condition_if_any(section, "when")
        if not fast or (when is None and "when" in section.node.entries):
            return None
        try:
            return condition(f"{fast} and ({when.source})" if when else fast, self.reader.vocabulary)
        except ExpressionError as error:  # only by its length: both parts were right by themselves
            section.report(section.line("when"), f"{section.what}: {error}")
            return None

    def define(self) -> None:
        """Read the policy's own names for expressions, each after those that it uses."""
        section = self.policy.section("definitions")
        if section is None:
            return
        trees: dict[str, Tree] = {}
        for name in section.node.entries:
            tree = self.definition(section, name)
            if tree is not None:
                trees[name] = tree
        if len(section.node.entries) > DEFINITIONS_MAX:
            self.report(section.head_line, f"{len(section.node.entries)} definitions; {DEFINITIONS_MAX} are allowed")
        uses = {name: frozenset(used.name for used in names_in(tree)) & trees.keys() for name, tree in trees.items()}
        broken = section.node.entries.keys() - trees.keys()
        for name in list(trees):
            if way := circle(name, uses):
                self.report(section.line(name), circle_text(way))
                broken.add(name)
        # What is broken has been said; conditions that use it stay silent about it.
        silent = {**self.reader.vocabulary.columns, **dict.fromkeys(broken, Type.UNKNOWN)}
        self.reader.vocabulary = replace(self.reader.vocabulary, columns=silent)
        waiting = [name for name in trees if name not in broken]
        while waiting:
            name = next(each for each in waiting if not uses[each].intersection(waiting))
            waiting.remove(name)
            self.settle(section, name, trees[name])

    def definition(self, section: Section, name: str) -> Tree | None:
        """Parse one definition; None when it is no expression, or its name is taken."""
        vocabulary, line = self.reader.vocabulary, section.line(name)
        node = section.scalar(name, "write an expression")
        if not IDENTIFIER.fullmatch(name):
            self.report(line, f"definition is named {shown(name)}; {NAME_REMEDY}")
        elif name in vocabulary.columns or name in vocabulary.lists or name in FUNCTIONS or name in WORDS:
            self.report(line, f"definition {shown(name)} has the name of a column, list, function or word; rename it")
        elif node is not None:
            try:
                return parse(node.text)
            except ExpressionProblem as problem:
                self.report(node.line, f"definition {shown(name)}: {problem.message}")
        return None

    def settle(self, section: Section, name: str, tree: Tree) -> None:
        """Check a definition whose own parts are settled, and let conditions use it."""
        vocabulary, node = self.reader.vocabulary, section.scalar(name)
        assert node is not None
        whole = tree
        try:
            whole = expanded(tree, vocabulary.definitions)
            problems = mistakes_in(whole, vocabulary, node.text)
        except ExpressionProblem as too_large:
            problems = [too_large]
        for problem in problems:
            self.report(node.line, f"definition {shown(name)}: {problem.message}")
        if problems:
            columns = {**vocabulary.columns, name: Type.UNKNOWN}
            self.reader.vocabulary = replace(vocabulary, columns=columns)
        else:
            self.reader.vocabulary = replace(vocabulary, definitions={**vocabulary.definitions, name: whole})
