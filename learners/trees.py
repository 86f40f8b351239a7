"""Hoeffding trees as experts: one that remembers everything, and one that forgets.

Owns the trees and their frozen copies. Refuses to know how they are weighed (`learners.experts`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from river import tree
from river.tree.nodes.branch import NominalBinaryBranch, NumericBinaryBranch

from learners.contract import Label

TREE_DEPTH_MAX: Final = 12
"""Bounds the tree: River's own bound in bytes measures objects, which a restored copy holds in other sizes."""

SPAN: Final = 2_000
"""Examples after which the younger of the forgetting trees takes over; it answers from between one and two spans."""

Shares: TypeAlias = Mapping[Label, float]
Node: TypeAlias = Any
"""A frozen tree: the counts of a leaf, or (feature, test, children, the child for a missing value)."""


class Trees:
    """Two experts. The second is the elder of a pair of trees that start a span apart."""

    def __init__(self) -> None:
        self.whole = _tree()
        self.elder = _tree()
        self.younger = _tree()
        self.learned = 0

    def shares(self, x: dict[str, Any]) -> list[Shares]:
        """Of each tree the counts of labels in the leaf of the example."""
        return [_counts(one._root, x) for one in (self.whole, self.elder)]

    def learn(self, x: dict[str, Any], y: Label, weight: float) -> None:
        self.whole.learn_one(x, y, w=weight)
        self.elder.learn_one(x, y, w=weight)
        self.learned += 1
        if self.learned > SPAN:
            self.younger.learn_one(x, y, w=weight)
            if self.learned % SPAN == 0:
                self.elder, self.younger = self.younger, _tree()

    def frozen(self) -> Bare:
        return Bare([_bare(one._root) for one in (self.whole, self.elder)])


class Bare:
    """Trees as they were, without what they would need to learn."""

    def __init__(self, roots: list[Node]) -> None:
        self.roots = roots

    def shares(self, x: dict[str, Any]) -> list[Shares]:
        return [_bare_counts(root, x) for root in self.roots]


def _tree() -> Any:
    """Majority leaves: beside linear experts naive Bayes in the leaves gained nothing on four streams, and doubled the
    time. Splits early, as leaves that wait for certainty were up to five points behind on drifting streams. The bound
    by bytes is put out of reach on purpose (see TREE_DEPTH_MAX)."""
    return tree.HoeffdingTreeClassifier(
        grace_period=50,
        delta=1e-3,
        leaf_prediction="mc",
        max_depth=TREE_DEPTH_MAX,
        memory_estimate_period=1 << 60,
    )


def _counts(node: Any, x: dict[str, Any]) -> Shares:
    """What River's `predict_proba_one` finds, for a quarter of its time."""
    if node is None:
        return {}
    while hasattr(node, "children"):
        try:
            node = node.next(x)
        except KeyError:
            node = node.most_common_path()[1]
    found: Shares = node.stats
    return found


def _bare(node: Any) -> Node:
    if node is None:
        return {}
    if not hasattr(node, "children"):
        return dict(node.stats)
    test = (
        ("<=", node.threshold)
        if isinstance(node, NumericBinaryBranch)
        else ("==", node.value)
        if isinstance(node, NominalBinaryBranch)
        else ("in", dict(node._mapping))
    )
    return node.feature, test, [_bare(child) for child in node.children], node.most_common_path()[0]


def _bare_counts(node: Node, x: dict[str, Any]) -> Shares:
    while type(node) is tuple:
        feature, (kind, value), children, common = node
        if feature not in x:
            place = common
        elif kind == "<=":
            place = 0 if x[feature] <= value else 1
        elif kind == "==":
            place = 0 if x[feature] == value else 1
        else:
            place = value.get(x[feature], common)
        node = children[place]
    counts: Shares = node
    return counts
