"""The conversation with a Docker engine: connecting, images, networks, and error messages."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import os
import random
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nemo_run.config.escaping import escaped
from nemo_run.core import extras
from nemo_run.errors import EngineUnreachableError, ExecutorError, NemoRunError

if TYPE_CHECKING:
    from docker import DockerClient as SdkClient
    from docker.models.containers import Container
    from docker.models.images import Image
    from docker.models.networks import Network

LABEL = "nemo-run"
"""Label of every container and network of ours; the further ones begin with it."""

PRIVATE_NETWORK = f"{LABEL}.network"
"""Label with the network of the job group, which goes with the group's last container."""

_DEFAULT_HOST = "unix:///var/run/docker.sock"
_TRIES = 10  # to find addresses that no other process takes meanwhile
_LARGEST = 256 << 20  # bytes of an answer that is not read in pieces
_TIMEOUT = 60  # seconds; an engine that takes longer for an answer counts as unreachable


def default_connection(host: str | None = None) -> dict[str, str]:
    """Return how to reach the engine: the one named, or the one that the ``docker`` command would use.

    That is, in this order: ``$DOCKER_CONTEXT``, ``$DOCKER_HOST``, the current context of ``docker context``, the socket
    of this machine.

    Raises:
        ExecutorError: There is no such context.
    """
    named = os.environ.get("DOCKER_CONTEXT", "")
    connection = {
        "host": host
        or (_context_host(named) if named else os.environ.get("DOCKER_HOST") or _context_host(""))
        or _DEFAULT_HOST
    }
    if os.environ.get("DOCKER_TLS_VERIFY"):
        connection["certificates"] = os.environ.get("DOCKER_CERT_PATH") or str(_config_folder())
    return connection


def _config_folder() -> Path:
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def _context_host(named: str) -> str:
    """Return the address of a context, by default of the current one; empty where that is the default of Docker."""
    folder, name = _config_folder(), named
    try:
        name = named or str(json.loads((folder / "config.json").read_bytes())["currentContext"])
        meta = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"
        return str(json.loads(meta.read_bytes())["Endpoints"]["docker"]["Host"])
    except (OSError, ValueError, KeyError) as e:
        if name in ("", "default"):
            return ""
        raise ExecutorError(
            f"there is no Docker context {name!r} with an engine in {folder}; see: docker context ls. Another one is "
            "named by DOCKER_CONTEXT"
        ) from e


class _NobodyThereError(Exception):
    """Nobody listens at the engine's address."""


class _AddressesTakenError(Exception):
    """Another network has the addresses."""


class DockerClient:
    """One engine. The connection is made when it is first needed, and again after it broke.

    Every question raises :class:`EngineUnreachableError` where there is no answer, and :class:`ExecutorError` where the
    answer is a refusal.
    """

    def __init__(self, connection: Mapping[str, str]) -> None:
        self._host = connection["host"]
        self._certificates = connection.get("certificates", "")
        self._client: SdkClient | None = None

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def is_podman(self) -> bool:
        """Whether it is Podman that answers."""
        with self.asking() as client:
            parts = client.version().get("Components") or []
        return any("Podman" in str(part.get("Name")) for part in parts)

    # images

    def provide(self, image: str, pull: str) -> None:
        """See to it that an image is there.

        Args:
            image: Its name.
            pull: ``"missing"``, ``"always"`` or ``"never"``.
        """
        with self.asking() as client:
            there = self._find_image(client, image) is not None
            if pull == "always" or (not there and pull == "missing"):
                _pull(client, image)
            elif not there:
                raise ExecutorError(f"the image {image!r} is not on {self._host}, and pull='never': pull or build it")

    def image_config(self, image: str, pull: str = "never") -> dict[str, Any]:
        """Return what an image says of itself: its user, environment, working directory."""
        with self.asking() as client:
            found = self._find_image(client, image)
            if found is None and pull != "never":  # it went since the launch
                _pull(client, image)
                found = self._find_image(client, image)
            if found is None:
                raise ExecutorError(f"the image {image!r} is not on {self._host} any more; pull it again")
            return dict(found.attrs.get("Config") or {})

    @staticmethod
    def _find_image(client: SdkClient, image: str) -> Image | None:
        import docker

        try:
            return client.images.get(image)
        except docker.errors.ImageNotFound:
            return None

    # containers

    def run(self, name: str, image: str, options: Mapping[str, Any]) -> None:
        """Create a container and start it, or take the one of this name; nothing is left where that fails."""
        with self.asking() as client:
            container = self._create(client, name, image, options)
            try:
                _check_working_dir(container, image, options)
                container.start()
            except BaseException:
                with contextlib.suppress(Exception):
                    container.remove(force=True, v=True)
                raise

    def run_to_the_end(self, image: str, options: Mapping[str, Any]) -> None:
        """Run a container until it has ended, and remove it.

        Raises:
            ExecutorError: It failed.
        """
        with self.asking() as client:
            container = client.containers.create(image, **options)
            try:
                container.start()
                code = container.wait(timeout=_TIMEOUT)["StatusCode"]
                words = container.logs(tail=5).decode(errors="replace").strip() if code else ""
            finally:
                container.remove(force=True, v=True)
        if code:
            raise ExecutorError(f"a container of {image!r} ended with exit code {code}: {words}")

    @staticmethod
    def _create(client: SdkClient, name: str, image: str, options: Mapping[str, Any]) -> Container:
        import docker

        try:
            return client.containers.create(image, name=name, **options)
        except docker.errors.APIError as e:
            if e.status_code != 409:
                raise
            return client.containers.get(name)
        except TypeError as e:
            raise ExecutorError(f"additional_kwargs: {e}") from e

    def containers(self) -> dict[str, dict[str, Any]]:
        """Return all containers of ours by their names, as the engine lists them. One query."""
        with self.asking() as client:
            listed = client.api.containers(all=True, filters={"label": LABEL})
        return {entry["Names"][0].lstrip("/"): entry for entry in listed if entry["Names"]}

    def inspect(self, name: str) -> dict[str, Any] | None:
        """Return all about one container; ``None`` where there is none of this name."""
        import docker

        with self.asking() as client:
            try:
                return dict(client.api.inspect_container(name))
            except docker.errors.NotFound:
                return None

    def output(self, name: str, lines: int) -> bytes:
        """Return the last lines that a container wrote to the engine."""
        with self.asking() as client:
            return bytes(client.api.logs(name, tail=lines))

    def kill(self, name: str, number: int) -> None:
        """Send a signal to a container; one that does not run is left as it is."""
        import docker

        with self.asking() as client:
            try:
                client.api.kill(name, signal=number)
            except docker.errors.APIError as e:
                if e.status_code not in (404, 409, 500):  # Podman: 500 for one that has just ended
                    raise

    def remove(self, name: str) -> None:
        """Remove a container, whether it runs or not, and what was made for it alone."""
        import docker

        with self.asking() as client:
            try:
                container = client.containers.get(name)
                container.remove(force=True, v=True)
            except docker.errors.APIError as e:
                if e.status_code not in (404, 409):  # somebody else removes it
                    raise
                return
            network = container.labels.get(PRIVATE_NETWORK)
            if network:
                with contextlib.suppress(docker.errors.APIError):  # others still use it, or it is gone
                    client.networks.get(network).remove()

    # networks

    def provide_network(self, name: str) -> None:
        """See to it that a network is there."""
        import docker

        if not is_made_for_us(name):
            return
        with self.asking() as client:
            if client.networks.list(names=[f"^{name}$"]):
                return
            try:
                made = client.networks.create(name, driver="bridge", labels={LABEL: ""})
            except docker.errors.APIError as e:
                if e.status_code != 409:
                    raise
                return
            # Two processes may both have made it, and two of one name could not be told apart: the first stays.
            same = sorted(client.networks.list(names=[f"^{name}$"]), key=lambda network: network.attrs["Created"])
            if len(same) > 1 and same[0].id != made.id:
                made.remove()

    def provide_group_network(self, name: str, members: int) -> str:
        """See to it that a network is there in which containers have fixed addresses, and return which.

        The engine chooses addresses that are free; it fixes only those of a network that was made with them named.

        Args:
            name: Its name.
            members: For how many containers.

        Raises:
            EngineUnreachableError: Other processes take all addresses before they are used here.
        """
        with self.asking() as client:
            problem = ""
            for _ in range(_TRIES):
                if found := client.networks.list(names=[f"^{name}$"]):
                    return _subnet(found[0])
                subnet = self._free_subnet(client, f"{name}-probe", members)
                try:
                    return self._make_network(client, name, subnet)
                except _AddressesTakenError as e:
                    problem = str(e)
        raise EngineUnreachableError(f"the Docker engine at {self._host} did not make the network {name!r}: {problem}")

    def _free_subnet(self, client: SdkClient, name: str, members: int) -> str:
        import docker

        try:
            probe = client.networks.create(name, driver="bridge", labels={LABEL: ""})
        except docker.errors.APIError as e:
            if "pool" not in str(e.explanation or e).lower():
                raise
            return own_subnet(members)  # of the addresses from which it chooses, others have taken all
        subnet = _subnet(probe)
        probe.remove()
        return subnet

    @staticmethod
    def _make_network(client: SdkClient, name: str, subnet: str) -> str:
        import docker

        try:
            ipam = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet=subnet)])
            return _subnet(client.networks.create(name, driver="bridge", labels={LABEL: ""}, ipam=ipam))
        except docker.errors.APIError as e:
            raise _AddressesTakenError(
                e.explanation or e
            ) from e  # another process has taken them, or has made this network

    # error messages

    @contextlib.contextmanager
    def asking(self) -> Iterator[SdkClient]:
        """Yield the connection; what goes wrong with it becomes an error that says what to do."""
        docker = sdk()
        from requests.exceptions import RequestException

        try:
            self._knock()
            if self._client is None:
                self._client = self._connect(docker)
            yield self._client
        except docker.errors.APIError as e:
            if e.status_code in (502, 503, 504):
                raise self._unreachable(e) from e
            raise ExecutorError(f"the Docker engine at {self._host} refused: {escaped(str(e.explanation or e))}") from e
        except (RequestException, _NobodyThereError) as e:
            raise self._unreachable(e) from e
        except docker.errors.DockerException as e:
            if self._client is None:
                raise self._unreachable(e) from e
            raise ExecutorError(f"the Docker SDK refused: {e}") from e

    def _knock(self) -> None:
        """Check that the engine listens. The SDK would leave a socket open where it does not."""
        scheme, _, path = self._host.partition("://")
        if scheme == "unix":
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(_TIMEOUT)
                try:
                    s.connect(path)
                except OSError as e:
                    raise _NobodyThereError from e

    def _connect(self, docker: Any) -> SdkClient:
        tls: Any = False
        if self._certificates:
            cert, key, ca = (str(Path(self._certificates, name)) for name in ("cert.pem", "key.pem", "ca.pem"))
            tls = docker.TLSConfig(client_cert=(cert, key), ca_cert=ca, verify=True)
        # A client that asks for the version by itself leaves its sockets open where there is no answer.
        with contextlib.closing(self._make_client(docker, tls, "1.41")) as first:
            version = first.api.version(api_version=False)["ApiVersion"]
        return self._make_client(docker, tls, version)

    def _make_client(self, docker: Any, tls: Any, version: str) -> SdkClient:
        client: SdkClient = docker.DockerClient(base_url=self._host, tls=tls, timeout=_TIMEOUT, version=version)
        client.api.hooks["response"].append(self._read)
        return client

    def _read(self, response: Any, **options: Any) -> None:
        """Read an answer to its end, which comes before a limit, unless it is one that is read in pieces."""
        if options.get("stream"):
            return
        content = bytearray()
        for piece in response.iter_content(1 << 16):
            content += piece
            if len(content) > _LARGEST:
                response.close()
                raise ExecutorError(
                    f"the Docker engine at {self._host} answered with more than {_LARGEST >> 20} MiB; given up"
                )
        response._content = bytes(content)  # noqa: SLF001  (what reading it by itself would set)

    def _unreachable(self, error: BaseException) -> EngineUnreachableError:
        self.close()
        return EngineUnreachableError(
            f"the Docker engine at {self._host} does not answer ({_innermost(error)}); see that it runs and that you "
            "may use it: docker info. Another one is named by DOCKER_HOST, or by docker_host= of the executor"
        )


def is_on_this_machine(host: str) -> bool:
    """Whether an engine sees the files of this machine, as far as its address tells.

    >>> [is_on_this_machine(host) for host in ("unix:///var/run/docker.sock", "tcp://10.0.0.1:2376", "ssh://localhost")]
    [True, False, False]
    """
    url = urlsplit(host)
    local = url.hostname in ("localhost", "127.0.0.1", "::1")
    return url.scheme in ("unix", "http+unix") or (local and url.scheme in ("tcp", "http", "https"))


def why_not_usable() -> str:
    """Return why the engine that is used by default cannot be; empty if it can."""
    engine = None
    try:
        engine = DockerClient(default_connection())
        engine.containers()
    except NemoRunError as error:
        return str(error)
    finally:
        if engine is not None:
            engine.close()
    return ""


def sdk() -> Any:
    """Return the Docker SDK.

    Raises:
        MissingExtraError: It is not installed.
    """
    return extras.load("docker", "docker", "DockerExecutor")


def _innermost(error: BaseException) -> str:
    """Return what was wrong in the end, under all the layers that passed it on."""
    while True:
        inner = error.__cause__ or error.__context__ or next((a for a in error.args if isinstance(a, Exception)), None)
        if inner is None:
            return getattr(error, "strerror", None) or str(error)
        error = inner


def _check_working_dir(container: Container, image: str, options: Mapping[str, Any]) -> None:
    """Check that the working directory exists: the engine would create a misspelt one."""
    wanted = options.get("working_dir", "")
    if not wanted or any(f"{wanted}/".startswith(f"{target.rstrip('/')}/") for target in _mounted(options)):
        return
    if any(change["Path"] == wanted and change["Kind"] == 1 for change in container.diff() or []):
        raise ExecutorError(f"the image {image!r} has no folder {wanted!r} to work in; correct the working directory")


def _mounted(options: Mapping[str, Any]) -> list[str]:
    """Return the folders of a container that are not those of its image."""
    targets = [mount["Target"] for mount in options["mounts"]]
    return targets + [volume.split(":")[1] for volume in options.get("volumes", [])]


def _pull(client: SdkClient, image: str) -> None:
    """Pull an image, and show how far that is."""
    import docker
    from docker.utils import parse_repository_tag
    from rich.console import Console

    repository, tag = parse_repository_tag(image)
    layers: dict[str, tuple[int, int]] = {}
    try:
        with Console(stderr=True).status(f"pulling {image}") as status:
            for event in client.api.pull(repository, tag=tag or "latest", stream=True, decode=True):
                if "error" in event:
                    raise ExecutorError(f"the image {image!r} could not be pulled: {event['error']}")
                detail = event.get("progressDetail") or {}
                if "total" in detail:
                    layers[event["id"]] = (detail["current"], detail["total"])
                    done, total = (sum(sizes) / 1e6 for sizes in zip(*layers.values(), strict=True))
                    status.update(f"pulling {image}: {done:.0f} of {total:.0f} MB")
    except docker.errors.APIError as e:
        raise ExecutorError(
            f"there is no image {image!r} here, and it could not be pulled: {e.explanation or e}; correct its name, "
            "log in to its registry (docker login), or build it"
        ) from e


def own_subnet(members: int) -> str:
    """Return addresses for so many containers that no network of this machine has: a few of ``10.0.0.0/8``."""
    prefix = 32 - (members + 3).bit_length()
    taken = list(_routes())
    while True:
        start = (10 << 24) + random.randrange(1 << 24)  # noqa: S311
        found = ipaddress.ip_network((start >> (32 - prefix) << (32 - prefix), prefix))
        if not any(found.overlaps(route) for route in taken):
            return str(found)


def _routes() -> Iterator[ipaddress.IPv4Network]:
    """Yield where the routes of this machine lead, but for the one that leads everywhere."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/route").read_text().splitlines()[1:]:
            target, mask = (socket.ntohl(int(line.split()[column], 16)) for column in (1, 7))
            if mask:
                yield ipaddress.IPv4Network((target, mask.bit_count()))


def _subnet(network: Network) -> str:
    """Return the addresses of a network, of version 4; empty where it has none."""
    network.reload()
    pools = (network.attrs.get("IPAM") or {}).get("Config") or []
    return next((pool["Subnet"] for pool in pools if ":" not in pool.get("Subnet", ":")), "")


def is_made_for_us(network: str) -> bool:
    """Check whether a network is one that has to be made, not one that every engine has."""
    return network not in ("", "host", "none", "bridge", "default") and not network.startswith("container:")
