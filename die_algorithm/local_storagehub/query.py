"""The search of ``GET /query``: a JSON expression about items, as the Java client sends it.

A subset: ``And``, ``Or``, ``Not``, ``Contains``, ``Like`` and ``ISDescendant``. An expression is
tagged with its Java class, of which only the last part counts here; fields are named as in the
repository.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

from die_algorithm.local_storagehub.errors import InvalidCallParameters
from die_algorithm.local_storagehub.items_json import is_of_type
from die_algorithm.local_storagehub.workspace import View, Workspace

Test = Callable[[View], bool]

_FIELDS: dict[str, Callable[[View], str | int]] = {
    "jcr:title": lambda view: view.item.name,
    "jcr:description": lambda view: view.item.description,
    "hl:portalLogin": lambda view: view.item.owner,
    "hl:lastModifiedBy": lambda view: view.item.modified_by,
    "jcr:created": lambda view: view.item.created,
    "jcr:lastModified": lambda view: view.item.modified,
}


def search(
    workspace: Workspace, expression: str, *, only_type: str | None, order: Sequence[str]
) -> list[View]:
    """The items of the user's workspace for which the expression is true.

    Args:
        workspace: of the user who asks.
        expression: JSON; empty for all items.
        only_type: the repository's type, such as ``nthl:workspaceItem``.
        order: fields, each alone or with ``ASC`` or ``DESC``.

    Raises:
        InvalidCallParameters: the expression or the order is not of the subset.
    """
    root = workspace.view(workspace.root.id)
    try:
        test = _test(json.loads(expression)) if expression else _always
        found = [
            view
            for _, view in workspace.walk(root, lambda item: item.details.get("role") != "trash")
            if is_of_type(view.item, only_type) and test(view)
        ]
    except (ValueError, RecursionError):
        raise InvalidCallParameters("The expression is not JSON, or nested too deep.") from None
    for clause in reversed(order):
        name, _, direction = clause.partition(" ")
        found.sort(key=_field(name.strip("[]")), reverse=direction.strip().upper() == "DESC")
    return found


def _always(_view: View) -> bool:
    return True


def _test(expression: object) -> Test:
    if not isinstance(expression, dict):
        raise InvalidCallParameters("The expression is not an object.")
    match str(expression.get("@class", "")).rpartition(".")[2]:
        case "And":
            tests = _tests(expression)
            return lambda view: all(test(view) for test in tests)
        case "Or":
            tests = _tests(expression)
            return lambda view: any(test(view) for test in tests)
        case "Not":
            inner = _test(expression.get("expression"))
            return lambda view: not inner(view)
        case "Contains" | "Like" as operator:
            return _text_test(operator, expression)
        case "ISDescendant":
            path = expression.get("path")
            path = path.get("path") if isinstance(path, dict) else path
            top = str(path).rstrip("/") + "/"
            return lambda view: view.path.startswith(top)
    raise InvalidCallParameters("The expression has a class that is not known here.")


def _tests(expression: dict[str, object]) -> list[Test]:
    inner = expression.get("expressions")
    if not isinstance(inner, list):
        raise InvalidCallParameters("The expression has no list of expressions.")
    return [_test(part) for part in inner]


def _text_test(operator: str, expression: dict[str, object]) -> Test:
    name = expression.get("searchableField")
    field = _field(str(name.get("name") if isinstance(name, dict) else name))
    value = str(expression.get("value", ""))
    if operator == "Contains":
        return lambda view: value.lower() in str(field(view)).lower()
    # SQL's wildcards, everything else literally.
    wildcards = {"%": ".*", "_": "."}
    pattern = re.compile("".join(wildcards.get(c, re.escape(c)) for c in value), re.DOTALL)
    return lambda view: pattern.fullmatch(str(field(view))) is not None


def _field(name: str) -> Callable[[View], str | int]:
    try:
        return _FIELDS[name]
    except KeyError:
        raise InvalidCallParameters(f"The field {name!r} is not known here.") from None
