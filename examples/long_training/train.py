"""What is run in each rank: a training that can be ended at any time. See ``training.py``."""

from __future__ import annotations

import nemo_run as run

if __name__ == "__main__":
    run.stopping()  # from here on SIGUSR1 and SIGTERM end nothing: before PyTorch, which takes long to load
    from training import train

    train()
