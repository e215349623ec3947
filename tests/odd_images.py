"""Images as nobody builds them, put straight into the files of the private Swarm's registry.

An image is a manifest, a configuration and layers (Docker's "Image Manifest V2, Schema 2"); a tool that
builds images makes all three fit together. Here each may be whatever a test wants.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer of an image, which the registry has."""

    digest: str
    size: int
    #: Of what is in it, unpacked; the engine compares it.
    diff_id: str


@dataclasses.dataclass(frozen=True)
class Image:
    """An image as the registry has it."""

    config: Mapping[str, Any]
    layers: Sequence[Layer]


class RegistryFiles:
    """What a registry keeps in files, each read anew for every request.

    Args:
        folder: the root of its storage.
    """

    def __init__(self, folder: Path) -> None:
        self._root = folder / "docker" / "registry" / "v2"

    def image(self, repository: str) -> Image:
        """Read the image ``latest`` of a repository."""
        tag = self._root / "repositories" / repository / "_manifests/tags/latest/current/link"
        manifest = json.loads(self._blob(tag.read_text()))
        config = json.loads(self._blob(manifest["config"]["digest"]))
        layers = [
            Layer(layer["digest"], layer["size"], diff_id)
            for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True)
        ]
        return Image(config, layers)

    def layer(self, files: Mapping[str, bytes]) -> Layer:
        """Make a layer of programs."""
        with io.BytesIO() as buffer:
            with tarfile.open(fileobj=buffer, mode="w") as archive:
                for name, content in files.items():
                    info = tarfile.TarInfo(name)
                    info.size, info.mode = len(content), 0o755
                    archive.addfile(info, io.BytesIO(content))
            return self.raw_layer(buffer.getvalue())

    def raw_layer(self, archive: bytes) -> Layer:
        """Make a layer of bytes that need not be an archive."""
        packed = gzip.compress(archive, compresslevel=1, mtime=0)
        return Layer(self._put(packed), len(packed), _digest(archive))

    def publish(
        self, repository: str, config: Mapping[str, Any] | bytes, layers: Sequence[Layer]
    ) -> None:
        """Make an image the ``latest`` of a repository.

        Args:
            repository: such as ``die-tests/odd``.
            config: the configuration; what it lacks, the image lacks.
            layers: from the bottom to the top.
        """
        raw = config if isinstance(config, bytes) else json.dumps(config).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "size": len(raw), "digest": self._put(raw)},
            "layers": [
                {"mediaType": _LAYER, "size": layer.size, "digest": layer.digest}
                for layer in layers
            ],
        }
        digests = [manifest["config"]["digest"], *(layer.digest for layer in layers)]  # type: ignore[index]
        for digest in digests:
            self._link(repository, f"_layers/{_path(digest)}", digest)
        digest = self._put(json.dumps(manifest).encode())
        self._link(repository, f"_manifests/revisions/{_path(digest)}", digest)
        self._link(repository, "_manifests/tags/latest/current", digest)
        self._link(repository, f"_manifests/tags/latest/index/{_path(digest)}", digest)

    def _blob(self, digest: str) -> bytes:
        return (self._blob_folder(digest) / "data").read_bytes()

    def _put(self, content: bytes) -> str:
        digest = _digest(content)
        folder = self._blob_folder(digest)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "data").write_bytes(content)
        return digest

    def _blob_folder(self, digest: str) -> Path:
        number = digest.removeprefix("sha256:")
        return self._root / "blobs" / "sha256" / number[:2] / number

    def _link(self, repository: str, path: str, digest: str) -> None:
        folder = self._root / "repositories" / repository / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "link").write_text(digest)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _path(digest: str) -> str:
    return digest.replace(":", "/")
