"""The file or folder that a request names: is it there, and may this user read it?"""

from __future__ import annotations

import dataclasses

from die_algorithm.credentials import redact
from die_algorithm.errors import (
    ItemNotAccessible,
    ItemUnusable,
    LinkError,
    LinkUnavailable,
    ServiceUnavailable,
    StorageHubError,
    TokenRejected,
)
from die_algorithm.models import Item, JobRequest, UserToken
from die_algorithm.public_links import PublicLinks
from die_algorithm.questions import Questions, storagehub_away
from die_algorithm.storagehub import StorageHub


class GivenItems:
    """Looks for what requests name, in workspaces and behind public links.

    Args:
        storagehub: the users' workspaces.
        public_links: files that are in none.
        questions: how many may be asked at once.
    """

    def __init__(
        self, storagehub: StorageHub, public_links: PublicLinks, questions: Questions
    ) -> None:
        self._storagehub = storagehub
        self._public_links = public_links
        self._questions = questions

    def found(self, request: JobRequest, token: UserToken, owner: str) -> JobRequest:
        """See that the file of a request is there, and find the item that a path leads to.

        Args:
            request: names it.
            token: the caller's.
            owner: the caller.

        Returns:
            The request with the item's id, if it is an item.

        Raises:
            InvalidParameterValue: it is not, or cannot be used.
            ServiceUnavailable: who has it cannot be asked now.
        """
        if request.link:
            self._check_link(request.link, request.item_parameter)
        if request.is_uploaded:
            return request
        refused = ItemNotAccessible(
            "There is no such item in the workspace, or this user token may not read it. Copy the "
            "item's id from the workspace.",
            request.item_parameter,
        )
        try:
            with self._questions.to_storagehub():
                item = self._item_given(request, token, owner)
        except ItemUnusable:
            raise refused from None
        except TokenRejected:
            raise refused from None
        except StorageHubError:
            raise storagehub_away() from None
        if item.trashed:
            raise ItemNotAccessible(
                f"The item {redact(item.name, token)!r} is in the trash; restore it first.",
                request.item_parameter,
            )
        return dataclasses.replace(
            request, item_id=item.id if request.item_path else request.item_id
        )

    def _item_given(self, request: JobRequest, token: UserToken, owner: str) -> Item:
        """The item of an id; where nobody has the id, or none was given, the one that a path leads to.

        Raises:
            ItemUnusable: there is no item of the id.
            InvalidParameterValue: the path leads nowhere; says where it ends.
        """
        if request.item_id:
            try:
                return self._storagehub.item(token, request.item_id)
            except ItemUnusable:
                if not request.item_path:
                    raise
        if request.path_owner not in (None, owner):
            raise ItemNotAccessible(
                f"{request.item_parameter} is a path in the workspace of another user. Only your own "
                "workspace can be used by paths; give the id of an item that is shared with you.",
                request.item_parameter,
            )
        item = self._storagehub.workspace_root(token)
        where = "the root"
        for name in request.item_path:
            missing = ItemNotAccessible(
                f"There is no {name!r} in {where} of your workspace. Check the path's spelling, or copy "
                "the item's id from the workspace.",
                request.item_parameter,
            )
            item = self._child(item, name, token, missing)
            where = f"the folder {name!r}"
        return item

    def _child(self, folder: Item, name: str, token: UserToken, missing: ItemNotAccessible) -> Item:
        if not folder.is_folder:
            shown = redact(folder.name, token)
            raise ItemNotAccessible(
                f"{shown!r} in your workspace is no folder, so there is no {name!r} in it.",
                missing.locator,
            )
        try:
            child = self._storagehub.find_child(token, folder.id, name)
        except ItemUnusable:
            raise missing from None
        if child is None:
            raise missing
        return child

    def _check_link(self, link: str, parameter: str) -> None:
        try:
            with self._questions.to_link_host():
                self._public_links.check(link)
        except LinkUnavailable as error:
            raise ServiceUnavailable(
                f"The public link cannot be checked, because {error}. Nothing was started; try again "
                "in a minute."
            ) from None
        except LinkError as error:
            raise ItemNotAccessible(
                f"The public link cannot be used: {error}. Check it in a browser in which nobody is "
                "signed in, or give the id of the item.",
                parameter,
            ) from None
