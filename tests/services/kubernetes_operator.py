"""What small operators for tests have in common: they look after the objects of one namespace until they stop."""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Callable, Mapping

from typing_extensions import Self

from nemo_run.core.execution.pods.client import KubernetesClient, Object
from nemo_run.errors import EngineUnreachableError, ExecutorError


class Operator:
    """Looks at all objects of its kinds, again and again.

    Attributes:
        api: The version of the API that its objects are of.
        errors: What went wrong; a fixture looks whether that is nothing.
    """

    api: str

    def __init__(self, cluster: KubernetesClient, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.errors: list[str] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)

    def kinds(self) -> Mapping[str, Callable[[Object], object]]:
        """What is done with an object, by its kind."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(0.2):
            for kind, reconcile in self.kinds().items():
                with contextlib.suppress(ExecutorError):  # the API is away, or the definition is being changed
                    for found in self.cluster.objects(self.api, kind, self.namespace):
                        if "deletionTimestamp" not in found["metadata"]:
                            self._look_after(reconcile, found)

    def _look_after(self, reconcile: Callable[[Object], object], found: Object) -> None:
        try:
            reconcile(found)
        except EngineUnreachableError:  # it is looked at again
            pass
        except ExecutorError as e:
            if "(404)" not in str(e) and "(409)" not in str(e):  # changed meanwhile: looked at again
                self.errors.append(traceback.format_exc())
        except Exception as e:  # noqa: BLE001  # an operator goes on
            if repr(e) != "KeyError('PYTEST_CURRENT_TEST')":  # pytest changes the environment that this thread reads
                self.errors.append(traceback.format_exc())
