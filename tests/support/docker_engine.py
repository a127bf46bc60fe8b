"""Whether containers can be started here."""

import gc
import warnings
from functools import cache


@cache
def docker_answers() -> bool:
    """Whether a Docker engine answers, asked once."""
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        answers = _ping()
        gc.collect()  # a refused docker client leaves its socket open; not into some test's hands
    return answers


def _ping() -> bool:
    import docker  # type: ignore[import-untyped] # only here: most runs need no Docker

    try:
        client = docker.from_env(timeout=2)
    except docker.errors.DockerException:
        return False
    try:
        return bool(client.ping())
    except docker.errors.DockerException:
        return False
    finally:
        client.close()
