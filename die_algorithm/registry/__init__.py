"""What registries tell about images, over the OCI distribution API (v1.1, "Pulling manifests").

======= ==============================================
client  what can be asked
calls   how one is asked, and what its refusals mean
answers the few fields of its answers that matter here
======= ==============================================
"""

from die_algorithm.registry.client import Registry, this_platform

__all__ = ["Registry", "this_platform"]
