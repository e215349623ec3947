"""A folder of which there is to be one of its name, whoever makes it."""

from __future__ import annotations

from die_algorithm.models import UserToken
from die_algorithm.storagehub import StorageHub


def settle(
    storagehub: StorageHub, token: UserToken, parent_id: str, name: str, *, made: str
) -> str:
    """See to it that one folder remains, once one was made because a look had found none.

    Somebody else may have made one between that look and our creation. StorageHub then called ours
    ``name(1)``, and theirs is there to be taken: all who look by the name take the same.

    Args:
        storagehub: the user's workspace.
        token: the user's.
        parent_id: the id of the folder that it is in.
        name: that it is to have.
        made: the id of ours; nothing is in it yet, and nobody else has its id.

    Returns:
        The id of the one that remains.

    Raises:
        StorageHubError: that cannot be seen to now; the next look by the name finds the right one.
    """
    named = storagehub.find_child(token, parent_id, name)
    if named is None or named.id == made:
        return made
    storagehub.delete(token, made)
    return named.id
