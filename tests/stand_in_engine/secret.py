"""One secret: a name, labels, and what nobody is told again."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from stand_in_engine.service import Refused, new_id, stamp

_NAME = re.compile(r"[a-zA-Z0-9]+(?:[a-zA-Z0-9-_.]*[a-zA-Z0-9])?")


@dataclasses.dataclass(eq=False)
class Secret:
    """One secret; its spec is as it was received, without what is in it."""

    spec: dict[str, Any]
    version: int
    id: str = dataclasses.field(default_factory=new_id)
    created_at: datetime = dataclasses.field(default_factory=lambda: datetime.now(UTC))

    @property
    def name(self) -> str:
        """Its unique name."""
        return str(self.spec["Name"])

    @property
    def labels(self) -> Mapping[str, str]:
        """Its own labels."""
        return self.spec.get("Labels") or {}

    @property
    def json(self) -> str:
        """As the engine tells it."""
        created = stamp(self.created_at)
        return json.dumps(
            {
                "ID": self.id,
                "Version": {"Index": self.version},
                "CreatedAt": created,
                "UpdatedAt": created,
                "Spec": self.spec,
            }
        )


def checked(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec without what is in the secret.

    Raises:
        Refused: there cannot be such a secret.
    """
    if not _NAME.fullmatch(str(spec.get("Name", ""))):
        raise _invalid("invalid name, only 64 [a-zA-Z0-9-_.] characters allowed")
    try:
        size = len(base64.b64decode(spec.get("Data", ""), validate=True))
    except binascii.Error:
        raise Refused(400, "illegal base64 data at input byte 0") from None
    if not 0 < size < 512_000:
        raise _invalid("secret data must be larger than 0 and less than 512000 bytes")
    return {name: value for name, value in spec.items() if name != "Data"}


def _invalid(text: str) -> Refused:
    return Refused(400, f"rpc error: code = InvalidArgument desc = {text}")
