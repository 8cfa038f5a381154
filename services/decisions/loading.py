"""From a policy's document to its declaration: every key asked for, every condition compiled, every mistake kept."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from services.decisions.declared import ActingList, Declaration, Passthrough, Rule, Season, Thresholds
from services.decisions.document import Mapping, Node, Scalar, Section
from services.decisions.document import Sequence as Items
from services.decisions.expression import Condition, ExpressionError, condition
from services.decisions.functions import FUNCTIONS
from services.decisions.mistakes import Mistake, shown, suggest
from services.decisions.precedence import RESERVED_CODES
from services.decisions.tokens import WORDS
from services.decisions.verdict import ACTIONS, Action, Reason
from services.decisions.vocabulary import EVENT_TEXTS, FEATURE_STATUSES, TextList, Vocabulary, payments_vocabulary

RULES_MAX = 1_000
SEGMENTS_MAX = 64  # a segment's index travels in one byte, and nobody tunes more by hand
LIST_VALUES_MAX = 100_000
SHARE_MAX = 0.2  # of declines let through; more is not a measurement but a hole

POLICY_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,59}")
NAME_REMEDY = "write small letters, digits and _, beginning with a letter, at most 60"
SCORED_ACTIONS: tuple[Literal["challenge", "review", "decline"], ...] = ("challenge", "review", "decline")


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
        self.vocabulary = payments_vocabulary(feature_names, {})
        self.rule_lines: dict[str, int] = {}

    def declaration(self) -> Declaration:
        policy = self.policy
        name = policy.pattern(
            "name", POLICY_NAME, "write small letters, digits and . _ -, at most 40, such as 2026-11", required=True
        )
        description = policy.text("description", characters_max=2_000)
        owner = policy.text("owner", "write who answers for this policy")
        lists = self.lists()
        self.vocabulary = Vocabulary(
            self.vocabulary.columns, self.vocabulary.features, {entry.texts.name: entry.texts for entry in lists}
        )
        segments = self.segments()
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
        passthrough = self.passthrough(name)
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
            elif name in self.vocabulary.columns or name in FUNCTIONS or name in WORDS:
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
            reason = self.reason(section, name)
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

    def segments(self) -> tuple[Thresholds, ...]:
        section = self.policy.section("thresholds", "write `thresholds:` and below it `default: {review: 0.5, ...}`")
        if section is None:
            return (Thresholds("default"),)
        named: list[Thresholds] = []
        lines: dict[str, int] = {}
        for each in section.sections("segments", "segment"):
            name = each.pattern("name", IDENTIFIER, NAME_REMEDY)
            self.unique(name, each.line("name"), lines, "segment")
            when = self.condition(each, "when", "write the condition under which this segment applies")
            named.append(self.thresholds(each, f"segment {name}", when))
            each.close()
        if len(named) > SEGMENTS_MAX:
            self.report(section.line("segments"), f"{len(named)} segments; {SEGMENTS_MAX} are allowed, join some")
        default = section.section("default", "write `default: {review: 0.5, decline: 0.9}` for events of no segment")
        section.close()
        last = Thresholds("default")
        if default:
            last = self.thresholds(default, "the default segment", None)
            default.close()
        return (*named, last)

    def thresholds(self, section: Section, segment: str, when: Condition | None) -> Thresholds:
        """Read the thresholds of one segment: at least one, rising with strictness."""
        cuts: dict[str, float] = {}
        for action in SCORED_ACTIONS:
            remedy = "a threshold is a probability above 0 and at most 1, such as 0.9"
            cut = section.number(action, 1e-9, 1.0, remedy)
            if cut is None:
                continue
            for milder, lower in cuts.items():
                if lower >= cut:
                    self.report(
                        section.line(action),
                        f"{segment} has {action}: {cut:g} but {milder}: {lower:g}, which then never acts; "
                        f"put {milder} below {cut:g} or remove it",
                    )
            cuts[action] = cut
        if not cuts and not section.asked.intersection(section.node.entries).intersection(SCORED_ACTIONS):
            self.report(section.head_line, f"{segment} has no threshold; write challenge, review or decline: 0.9")
        infinity = math.inf
        return Thresholds(
            segment,
            when,
            cuts.get("challenge", infinity),
            cuts.get("review", infinity),
            cuts.get("decline", infinity),
        )

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
            thresholds = self.thresholds(inner, "the fallback section", None)
            inner.close()
            self.stricter(inner, thresholds, default)
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

    def stricter(self, section: Section, fallback: Thresholds, default: Thresholds) -> None:
        """Refuse a fallback threshold that can never act, because the default's acts before it."""
        for action in SCORED_ACTIONS:
            cut, ordinary = getattr(fallback, action), getattr(default, action)
            if math.isfinite(cut) and cut >= ordinary:
                self.report(
                    section.line(action),
                    f"{action} of the fallback section is {cut:g}, not stricter than the default's {ordinary:g}; "
                    f"write less than {ordinary:g} or remove it",
                )

    def rules(self, section: Section, season: Season, remedy: str = "") -> list[Rule]:
        rules: list[Rule] = []
        for each in section.sections("rules", "rule", remedy):
            name = each.pattern("name", IDENTIFIER, NAME_REMEDY)
            self.unique(name, each.line("name"), self.rule_lines, "rule")
            when = self.condition(each, "when", "write the condition under which it hits")
            action = each.choice("action", ACTIONS, "write approve, challenge, review or decline")
            reason = self.reason(each, name)
            owner = each.text("owner")
            each.text("description", characters_max=2_000)
            each.close()
            if when and action:
                rules.append(Rule(name, when, _action(action), reason, season, owner))
        if len(self.rule_lines) > RULES_MAX:
            self.report(section.line("rules"), f"more than {RULES_MAX} rules; join some or use lists")
        return rules

    def reason(self, section: Section, name: str) -> Reason:
        code = section.pattern("code", IDENTIFIER, NAME_REMEDY, required=False) or name
        if code in RESERVED_CODES:
            key = "code" if "code" in section.node.entries else "name"
            self.report(section.line(key), f"code {shown(code)} is one of Weir's own reason codes; choose another")
        return code, section.text("reason", "write in one sentence what a person should read")

    def passthrough(self, name: str) -> Passthrough:
        section = self.policy.section("passthrough")
        if section is None:
            return Passthrough(0.0, name)
        remedy = f"write the share of would-be declines to let through, from 0 to {SHARE_MAX:g}"
        share = section.number("share", 0.0, SHARE_MAX, remedy)
        if share is None and "share" not in section.node.entries:
            self.report(section.head_line, f"passthrough has no share; {remedy}")
        salt = section.text("salt") or name
        when = self.condition(section, "when") if "when" in section.node.entries else None
        section.close()
        return Passthrough(share or 0.0, salt, when)

    def condition(self, section: Section, key: str, remedy: str = "write a condition") -> Condition | None:
        node = section.scalar(key, remedy)
        if node is None:
            return None
        try:
            return condition(node.text, self.vocabulary)
        except ExpressionError as error:
            for problem in error.problems:
                # Only a literal text keeps its lines; a folded one is one line to the reader of the message as well.
                below = node.text.count("\n", 0, problem.at) if node.literal else 0
                self.report(node.line + below, f"{section.what}: {problem.message}")
            return None

    def unique(self, name: str, line: int, lines: dict[str, int], what: str) -> None:
        if name in lines:
            self.report(
                line, f"{what} {shown(name)} is declared a second time, first on line {lines[name]}; rename one"
            )
        elif name:
            lines[name] = line


def _action(text: str) -> Action:
    return next(action for action in ACTIONS if action == text)
