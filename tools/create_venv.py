"""Creates the virtual environment that the Makefile uses: ``python3 tools/create_venv.py .venv``.

Debian and Ubuntu ship ``python3`` without the part of it that puts pip into an environment. Then pip comes from their own
package of it, downloaded and unpacked into a temporary folder: nothing is installed on the system, no root is needed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import venv

MINIMUM = (3, 10)


def main():
    folder = sys.argv[1]
    if sys.version_info < MINIMUM:
        sys.exit(
            "Python %d.%d or later is needed; %s is %d.%d. Name another one: make PYTHON=/path/to/python3"
            % (MINIMUM + (sys.executable,) + tuple(sys.version_info[:2]))
        )
    try:
        create(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def create(folder):
    if has_ensurepip():
        venv.create(folder, with_pip=True, clear=True)
        return
    print("python3-venv is not installed: taking pip from the distribution's python3-pip-whl package", flush=True)
    venv.create(folder, with_pip=False, clear=True)
    with tempfile.TemporaryDirectory() as work:
        try:
            install_pip(os.path.join(folder, "bin", "python"), download_pip_wheel(work))
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(
                "%s has no pip for a virtual environment, and none could be fetched (%s).\n"
                "Install it, then run make again:  sudo apt-get install python3-venv" % (sys.executable, error)
            )


def has_ensurepip():
    try:
        import ensurepip

        ensurepip.version()
    except (ImportError, AttributeError, IndexError, OSError):
        return False
    return True


def download_pip_wheel(work):
    """The path of a pip wheel, unpacked from the distribution's package into the folder ``work``."""
    quiet = {"cwd": work, "check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(["apt-get", "download", "python3-pip-whl"], **quiet)
    (package,) = os.listdir(work)
    subprocess.run(["dpkg-deb", "--extract", package, "unpacked"], **quiet)
    wheels = os.path.join(work, "unpacked", "usr", "share", "python-wheels")
    (wheel,) = (name for name in os.listdir(wheels) if name.startswith("pip-"))
    return os.path.join(wheels, wheel)


def install_pip(python, wheel):
    """Install the pip in ``wheel`` with itself: a wheel is a zip file that Python can run from."""
    subprocess.run([python, wheel + "/pip", "install", "--quiet", "--no-index", wheel], check=True)


if __name__ == "__main__":
    main()
