"""Every rule of mlps in one table, for plan, run, verify and reports."""

from __future__ import annotations

from collections.abc import Mapping

from .evidence_rules import EVIDENCE_RULES
from .package.table import PACKAGE_RULES
from .rule_rows import JOB_RULES
from .rulebook import Rule
from .system_rules import SYSTEM_RULES
from .tree.table import TREE_RULES, UPSTREAM_RULES

RULES: Mapping[str, Rule] = {
    **JOB_RULES,
    **EVIDENCE_RULES,
    **SYSTEM_RULES,
    **TREE_RULES,
    **UPSTREAM_RULES,
    **PACKAGE_RULES,
}
