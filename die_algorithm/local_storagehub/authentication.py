"""Who asks: the rules of the container in front of every gCube service.

The query parameter ``gcube-token`` comes first, then the header of that name, then HTTP Basic with
the token as password, then Bearer, which alone may carry a JWT (reference: storagehub 1.2 and "Tokens").
"""

from __future__ import annotations

import dataclasses

from werkzeug.wrappers import Request

from die_algorithm.local_storagehub.errors import AuthorizationRequired, InvalidToken
from die_algorithm.local_storagehub.users import User, Users
from die_algorithm.models import UserToken

_PARAMETER = "gcube-token"


@dataclasses.dataclass(frozen=True)
class Caller:
    """The user who asks, and the VRE that her token is for; empty if it is for none."""

    user: User
    context: str


def authenticate(request: Request, users: Users) -> Caller:
    """Find the user.

    Raises:
        AuthorizationRequired: the request carries no token, an unknown Bearer token, or a user name
            that is not the token's owner's.
        InvalidToken: nobody has the gCube token, or it is none but a JWT.
    """
    token = request.args.get(_PARAMETER) or request.headers.get(_PARAMETER)
    if token:
        return _caller(_owner(token, users))
    authorization = request.authorization
    if authorization is not None and authorization.type == "basic":
        owner = _owner(authorization.password or "", users)
        if authorization.username != owner.name:
            raise AuthorizationRequired("The token is not of the user whose name was given.")
        return _caller(owner)
    if authorization is not None and authorization.type == "bearer":
        user = users.with_token(authorization.token or "")
        if user is None:
            raise AuthorizationRequired("The Bearer token is not valid.")
        return _caller(user)
    raise AuthorizationRequired("authorization required")


def _owner(token: str, users: Users) -> User:
    """Whose gCube token it is."""
    if UserToken(token).is_jwt:
        raise InvalidToken("invalid token: a JWT is taken in 'Authorization: Bearer' only")
    user = users.with_token(token)
    if user is None:
        raise InvalidToken("invalid token: no user has it")
    return user


def _caller(user: User) -> Caller:
    return Caller(user, user.vre[0].strip("/").replace("/", "-") if user.vre else "")
