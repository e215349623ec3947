"""Docker Image Executor: run a Docker image on a file of a gCube workspace, as a WPS process.

The one name most users need is :class:`die_algorithm.process.DockerImageExecutor`. Importing this
package does nothing else: no configuration is read, no connection made.
"""

__version__ = "0.1.0"
