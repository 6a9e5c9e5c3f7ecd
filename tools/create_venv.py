"""Creates the virtual environment that the Makefile uses: ``python3 tools/create_venv.py .venv``.

Debian and Ubuntu ship ``python3`` without the part of it that puts pip into an environment. Then pip comes from their
own package of it, unpacked into a temporary folder: nothing is installed on the system, and no root is needed.
"""

import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

MINIMUM = (3, 10)


def main():
    folder = sys.argv[1]
    if sys.version_info < MINIMUM:
        sys.exit(
            "Python {}.{} or later is needed; {} is {}.{}. Name another one: make PYTHON=/path/to/python3".format(
                *MINIMUM, sys.executable, *sys.version_info[:2]
            )
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
            install_pip(folder + "/bin/python", download_pip_wheel(Path(work)))
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
    subprocess.check_output(["apt-get", "download", "python3-pip-whl"], cwd=str(work), stderr=subprocess.DEVNULL)
    (package,) = work.iterdir()
    subprocess.check_output(["dpkg-deb", "--extract", str(package), str(work / "unpacked")])
    (wheel,) = work.glob("unpacked/usr/share/python-wheels/pip-*.whl")
    return wheel


def install_pip(python, wheel):
    """Install the pip in ``wheel`` with itself: a wheel is a zip file that Python can run from."""
    subprocess.run([python, "{}/pip".format(wheel), "install", "--quiet", "--no-index", str(wheel)], check=True)


if __name__ == "__main__":
    main()
