import pytest

pytest.register_assert_rewrite("nemo_run.testing")

from tests.support import no_process_left as no_process_left  # noqa: E402
