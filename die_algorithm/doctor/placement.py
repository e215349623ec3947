"""Which machines jobs may run on."""

from __future__ import annotations

import re
from collections.abc import Sequence

from die_algorithm.models import NodeFacts
from die_algorithm.settings import Settings


def fitting_nodes(settings: Settings, nodes: Sequence[NodeFacts]) -> list[NodeFacts]:
    """The nodes that jobs may run on now.

    Args:
        settings: the operator's.
        nodes: all of the Swarm's.
    """
    return [
        node
        for node in nodes
        if node.is_ready and all(_meets(node, constraint) for constraint in settings.placement)
    ]


def _meets(node: NodeFacts, constraint: str) -> bool:
    """Whether a node may run jobs, as Swarm decides; yes where only Swarm itself can tell."""
    key, operator, value = (part.strip() for part in re.split("([=!]=)", constraint, maxsplit=1))
    if not key.startswith("node.labels."):
        key = key.lower()
        if key not in node.attributes:
            return True
    # To Swarm a label that is missing is an empty one.
    is_equal = node.attributes.get(key, "").lower() == value.lower()
    return is_equal == (operator == "==")
