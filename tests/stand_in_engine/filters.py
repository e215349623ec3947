"""What lists are asked for: the ``filters`` of a query."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from stand_in_engine.secret import Secret
from stand_in_engine.service import Refused, Service
from stand_in_engine.task import NODE_ID, Task

_OF_SERVICES = ("label", "name", "id")
_OF_SECRETS = ("label", "name", "names", "id")
_OF_CONTAINERS = ("label",)
_OF_TASKS = ("label", "service", "id", "desired-state", "node")


class Filters:
    """Filters by name, each with the values that are allowed; all must let a thing pass.

    Args:
        values: of each filter.
    """

    def __init__(self, values: Mapping[str, list[str]]) -> None:
        self._values = values

    @classmethod
    def of_services(cls, text: str) -> Filters:
        """Read those of a list of services."""
        return cls(_read(text, _OF_SERVICES))

    @classmethod
    def of_secrets(cls, text: str) -> Filters:
        """Read those of a list of secrets."""
        return cls(_read(text, _OF_SECRETS))

    @classmethod
    def of_containers(cls, text: str) -> Filters:
        """Read those of a list of containers."""
        return cls(_read(text, _OF_CONTAINERS))

    @classmethod
    def of_tasks(cls, text: str) -> Filters:
        """Read those of a list of tasks."""
        return cls(_read(text, _OF_TASKS))

    def with_ids_of(self, service_id: Callable[[str], str]) -> Filters:
        """The same with the services' ids in place of names; fails if there is no such service."""
        services = [service_id(name) for name in self._values.get("service", ())]
        return Filters({**self._values, "service": services} if services else self._values)

    def passes_service(self, service: Service | Secret) -> bool:
        """Whether a list of services, or of secrets, has it."""
        return (
            self._labels(service)
            and self._begins("name", service.name)
            and self._begins("id", service.id)
        )

    def passes_task(self, task: Task) -> bool:
        """Whether a list of tasks has it; it is its service's labels that count."""
        return (
            self._labels(task.service)
            and self._is("service", task.service.id)
            and self._begins("id", task.id)
            and self._is("desired-state", task.desired)
            and self._is("node", NODE_ID if task.on_node else "")
        )

    def passes_container(self, task: Task) -> bool:
        """Whether a list of containers has that of a task; it is its own labels that count."""
        labels = task.template["ContainerSpec"].get("Labels") or {}
        return all(_has_label(labels, wanted) for wanted in self._values.get("label", ()))

    def _labels(self, service: Service | Secret) -> bool:
        return all(_has_label(service.labels, wanted) for wanted in self._values.get("label", ()))

    def _is(self, name: str, value: str) -> bool:
        return name not in self._values or value in self._values[name]

    def _begins(self, name: str, value: str) -> bool:
        return name not in self._values or value.startswith(tuple(self._values[name]))


def _has_label(labels: Mapping[str, str], wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in labels and (not equals or labels[name] == value)


def _read(text: str, known: tuple[str, ...]) -> dict[str, list[str]]:
    try:
        filters = json.loads(text or "{}")
    except ValueError:
        raise Refused(400, "invalid character looking for beginning of value") from None
    for name in filters:
        if name not in known:
            raise Refused(400, f"Invalid filter '{name}'")
    # Old clients send {"label": {"value": true}}.
    return {name: list(values) for name, values in filters.items()}
