"""What every engine must do: one suite, run through each of them. It needs pytest.

A test module of an engine, also one in a package of its own, has a subclass::

    from nemo_run.testing import BackendContract

    class TestDockerBackend(BackendContract):
        def make_executor(self, **options):
            return DockerExecutor(container_image="debian:stable-slim", **options)

and overrides, where the engine differs, the attributes and the methods of the first part of the class.  Everything
goes through plans that have been JSON and through the log, so that it holds for engines without a common file system.
"""

from nemo_run.testing.contract import HOSTILE as HOSTILE, BackendContract as BackendContract
