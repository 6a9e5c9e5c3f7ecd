# What `ps -ax[wwE] -o pid=,ppid=,pgid=,stat=,rss=,lstart=,command=` prints on macOS, from a folder that is Linux's
# /proc; its path is in PROC, on a line before these. `-p PID` for one process.
import os
import sys
import time

with open(f"{PROC}/stat") as f:  # noqa: F821
    boot = next(int(line.split()[1]) for line in f if line.startswith("btime"))
wanted = [sys.argv[sys.argv.index("-p") + 1]] if "-p" in sys.argv else filter(str.isdigit, os.listdir(PROC))  # noqa: F821
for pid in wanted:
    try:
        with open(f"{PROC}/{pid}/stat", "rb") as f:  # noqa: F821
            stat = f.read().rpartition(b")")[2].split()
        with open(f"{PROC}/{pid}/cmdline", "rb") as f:  # noqa: F821
            words = f.read().split(b"\0")
        environment = b""
        if "E" in sys.argv[1] and words[0][:8] != b"/bin/sle":  # it shows none of the system's own programs
            with open(f"{PROC}/{pid}/environ", "rb") as f:  # noqa: F821
                environment = f.read().replace(b"\0", b" ")
    except OSError:
        continue
    start = time.asctime(time.gmtime(boot + int(stat[19]) // os.sysconf("SC_CLK_TCK")))
    text = b" ".join(words) + b" " + environment
    numbers = f"{pid} {stat[1].decode()} {stat[2].decode()} {stat[0].decode()} {int(stat[21]) * 4} {start}"
    sys.stdout.buffer.write(numbers.encode() + b" " + text.replace(b"\n", b" ") + b"\n")
