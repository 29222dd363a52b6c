"""Run the Python blocks of one page in one namespace: a JSON line in, a JSON line out."""

import contextlib
import io
import json
import sys
import traceback

namespace: dict[str, object] = {"__name__": "__main__"}

for line in sys.stdin:
    printed, failure = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(json.loads(line), "<block>", "exec"), namespace)
        except Exception:  # noqa: BLE001 - reported to the test, whatever it is
            failure = traceback.format_exc()
    sys.stdout.write(json.dumps({"printed": printed.getvalue(), "failure": failure}) + "\n")
    sys.stdout.flush()
