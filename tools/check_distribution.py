#!/usr/bin/env python3
"""Checks what users install: the wheel, on every supported Python and with the lowest versions of what it depends on.

    tools/check_distribution.py [PYTHON | lowest]...    by default: all of them

It builds an sdist, and a wheel from the sdist.  Then, for each PYTHON, it installs the wheel into an environment and
runs tests of the unpacked sdist, from which the package itself is removed: what is tested is what is installed.
"lowest" does so on the oldest Python with the lowest release that pyproject.toml allows of each dependency, and the
newest of everything else.  A PYTHON that this machine lacks is a failure.  No engine is started.

Environments are kept in $XDG_CACHE_HOME/nemo-run-tests/pythons, and made anew when what they were made of changes.
"""

import concurrent.futures
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nemo-run-tests" / "pythons"
EXTRAS = ("dgxcloud", "docker", "kubernetes", "lepton", "optuna", "ray-jobs", "slurm", "test", "ui")
# Left out of "lowest": ray and skypilot take minutes to install and pin most of what they need; launchers pin Torch.

# What may differ between Pythons and between versions of dependencies.  The rest of the tests runs on one Python only,
# in the checkout: it needs engines, or is about time (benchmarks, hardening) or the tests themselves (test_skips).
# What the guides show is the same on every Python, but not with every version of what they print with.
TESTS = ("cli", "config", "conformance", "execution", "packaging", "run", "runners", "test_imports.py", "ui")
TESTS_OF_DEPENDENCIES = ("dgxcloud", "docs", "kubeflow", "kuberay", "kubernetes", "lepton", "ray", "slurm", "tunnel")
PATIENCE = 5400  # seconds for one command, beside which CI runs all other tests


class CheckError(Exception):
    """A check that failed; its text is all there is to say."""


def main():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pythons = [word.rpartition(" ")[2] for word in project["classifiers"] if re.search(r":: 3\.\d+$", word)]
    chosen = sys.argv[1:] or [*pythons, "lowest"]
    if unknown := [name for name in chosen if name not in (*pythons, "lowest")]:
        sys.exit("unknown: {}; there are: {}, lowest".format(", ".join(unknown), ", ".join(pythons)))
    failed = []
    with tempfile.TemporaryDirectory(prefix="nemo-run-dist-") as work, _lock():
        try:
            build(Path(work))
        except CheckError as failure:
            sys.exit("building FAILED\n{}".format(failure))
        # Two at a time: one installs or waits while the other computes.
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            futures = {pool.submit(check, name, pythons[0], project, Path(work)): name for name in chosen}
            for future in concurrent.futures.as_completed(futures):
                try:
                    print("{}: {}".format(futures[future], future.result()), flush=True)
                except CheckError as failure:
                    failed.append(futures[future])
                    print("{}: FAILED\n{}".format(futures[future], failure), flush=True)
    sys.exit("distribution FAILED on: {}".format(", ".join(failed)) if failed else 0)


def _lock():
    """An open file that other runs wait for: they use the same environments."""
    CACHE.mkdir(parents=True, exist_ok=True)
    lock = (CACHE / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def build(work):
    """Build sdist and wheel, and unpack the sdist without the package."""
    run(sys.executable, "-m", "build", "--outdir", str(work / "dist"), str(ROOT))
    (sdist,) = (work / "dist").glob("*.tar.gz")
    (work / "source").mkdir()
    run("tar", "-xf", str(sdist), "--strip-components=1", "--directory", str(work / "source"))
    shutil.rmtree(work / "source" / "nemo_run")
    (wheel,) = (work / "dist").glob("*.whl")
    print("built: {}, {}".format(sdist.name, wheel.name), flush=True)


def check(name, oldest, project, work):
    """Install and test; what to print."""
    begin = time.monotonic()
    python = interpreter(oldest if name == "lowest" else name)
    extras = project["optional-dependencies"]
    required = [*project["dependencies"], *(one for extra in EXTRAS for one in extras[extra])]
    required = sorted({one for one in required if not one.startswith("nemo-run")})
    constraints = lowest(required) if name == "lowest" else []
    folder = environment(name, python, required, constraints)
    installed = time.monotonic()
    (wheel,) = (work / "dist").glob("*.whl")
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall"]
    run(*pip, str(wheel))
    run(str(folder / "bin/python"), "-m", "pip", "check")
    if constraints:  # the build, too, works with the lowest release
        run(str(folder / "bin/python"), "-m", "hatchling", "build", "-d", str(work / "built-with-lowest"), cwd=ROOT)
    source = work / name
    shutil.copytree(work / "source", source, symlinks=True)
    said = run_tests(folder, source, TESTS + (TESTS_OF_DEPENDENCIES if name == "lowest" else ()))
    return "{}; installed in {:.0f} s, {:.0f} s in all".format(said, installed - begin, time.monotonic() - begin)


def interpreter(version):
    """The Python of a version, such as "3.12"; shims of version managers are not trusted before they have answered."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    managed = sorted(root.glob("versions/{}.*/bin/python".format(version)), reverse=True)
    ask = "import sys; print(*sys.version_info[:2], sep='.')"
    for found in (shutil.which("python" + version), *managed):
        if found and _output(str(found), "-c", ask) == version:
            return str(found)
    raise CheckError("there is no Python {} on this machine, neither on the PATH nor in {}".format(version, root))


def _output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def lowest(required):
    """The constraints that hold each requirement at the lowest release that it allows."""
    pinned = []
    for one in required:
        match = re.match(r"([\w.-]+)(?:\[[^]]*\])?>=([\w.]+)(?:,[^;]*)?(;.*)?$", one)
        if match:
            pinned.append("{}=={}{}".format(match[1], match[2], match[3] or ""))
        elif "==" not in one:
            raise CheckError("{!r} in pyproject.toml has no lowest release".format(one))
    return pinned


def environment(name, python, required, constraints):
    """The folder of an environment with what is required; kept from an earlier run, or made now."""
    folder = CACHE / name
    made_of = json.dumps([_output(python, "-c", "import sys; print(sys.version)"), required, constraints])
    stamp = folder / "made-of"
    wanted = hashlib.sha256(made_of.encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return folder
    run(python, str(ROOT / "tools/create_venv.py"), str(folder))
    (folder / "constraints.txt").write_text("\n".join(constraints))
    pip = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    run(*pip, "--constraint", str(folder / "constraints.txt"), *required)
    stamp.write_text(wanted)
    return folder


def run_tests(folder, source, tests):
    """Run tests of the unpacked sdist, and once more what failed; the closing line of pytest."""
    env = {key: value for key, value in os.environ.items() if key not in ("CI", "PYTHONPATH", "VIRTUAL_ENV")}
    env["PATH"] = "{}:{}".format(folder / "bin", env["PATH"])
    pytest = [str(folder / "bin/python"), "-m", "pytest", "-q", "--without-engines", "--timeout=600"]
    paths = ["tests/" + test for test in tests]
    try:
        return closing_line(run(*pytest, "--numprocesses=2", *paths, cwd=source, env=env))
    except CheckError as error:
        failed = failed_tests(source)
        if not failed:
            raise
        (source / "again").write_text("\n".join(failed))
        try:  # a machine may be slow for reasons of its own
            run(*pytest, "@again", cwd=source, env=env)
        except CheckError as again:
            raise CheckError("{}\n\nonce more, what failed:\n{}".format(error, again)) from None
        return "{}; needed a second run: {}".format(closing_line(str(error)), ", ".join(failed))


def closing_line(said):
    return said.strip().splitlines()[-1].strip("= ")


def failed_tests(source):
    """The tests that failed in the last run, without the names of their groups."""
    path = source / ".pytest_cache" / "v" / "cache" / "lastfailed"
    return sorted({re.sub("@[a-z]+$", "", name) for name in json.loads(path.read_text())}) if path.exists() else []


def run(*command, cwd=None, env=None):
    """Run a command; what it printed.  Raise CheckError with all of it where it fails."""
    try:
        done = subprocess.run(
            command, cwd=cwd, env=env, text=True, check=False, timeout=PATIENCE,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise CheckError(
            "no end after {} s: {}\n{}".format(PATIENCE, " ".join(command), (error.stdout or b"").decode())
        ) from None
    if done.returncode != 0:
        raise CheckError("$ {}\n{}".format(" ".join(command), done.stdout))
    return done.stdout


if __name__ == "__main__":
    main()
