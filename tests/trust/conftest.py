from __future__ import annotations

from tests.support import no_process_left as no_process_left, work as work
