"""What registries refuse, in the same words whoever asked them: this service, or an engine for it."""

from __future__ import annotations

from die_algorithm.errors import ImageNotFound, ImageUnusable
from die_algorithm.image_reference import ImageReference


def not_public(image: ImageReference) -> ImageNotFound:
    """An image that is not there, or is private.

    One sentence for both: nobody learns here which private images there are (reference: safety, I22).
    """
    return ImageNotFound(
        f"The image {image.familiar} does not exist on {image.place}, or is not public. Check "
        "its name and tag, or publish it."
    )


def wrong_platform(image: ImageReference, platform: str) -> ImageUnusable:
    """An image of which there is no variant for the nodes.

    Args:
        image: the reference.
        platform: of the nodes, such as ``linux/amd64``.
    """
    return ImageUnusable(
        f"The image {image.familiar} has no variant for {platform}. Build it for this platform "
        "and publish it again."
    )
