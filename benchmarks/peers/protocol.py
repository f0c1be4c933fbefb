# SPDX-License-Identifier: Apache-2.0
"""How a measured program talks with the script that conducts it. Standard library only.

One JSON object a line in each direction: the conductor sends {"do": NAME, ...arguments}, the
program answers {"answer": ...} or {"error": "..."}, and a "traceback" when it is a defect.
The first command is "open" with the job; every other one is a public method of what `open_task`
made of it. Between commands the program waits for its next line and does nothing.
"""

import ctypes
import json
import os
import signal
import sys
import time
import traceback

_PR_SET_PDEATHSIG = 1


def serve(open_task):
    """Answer commands until the standard input ends.

    Args:
        open_task: job (a dict) -> object whose public methods are the commands.
    """
    if sys.platform == "linux":  # a stopped program would outlive a conductor that was killed
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = _own_standard_output()
    task = None
    for line in sys.stdin:
        request = json.loads(line)
        name = request.pop("do")
        try:
            if name == "open":
                task = open_task(request)
                answer = None
            else:
                answer = getattr(task, name)(**request)
            reply = {"answer": answer}
        except Exception as error:
            if type(error).__name__ == "UserError":
                reply = {"error": str(error)}
            else:
                reply = {"error": repr(error), "traceback": traceback.format_exc()}
        answers.write(json.dumps(reply) + "\n")
        answers.flush()


def _own_standard_output():
    """Keep the standard output for answers; what libraries print goes to the standard error.

    Line by line, so that it is there when the program dies.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout.reconfigure(line_buffering=True)
    return answers


def seconds_of(work, count):
    """Call `work` `count` times; return the seconds of each."""
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return seconds


def memory():
    """This process's resident memory now and at its highest, bytes."""
    values = {}
    with open("/proc/self/status", encoding="ascii", errors="replace") as stream:
        for line in stream:
            name, _, rest = line.partition(":")
            if name in ("VmRSS", "VmHWM"):
                values[name] = int(rest.split()[0]) * 1024
    return {"now": values["VmRSS"], "highest": values["VmHWM"]}
