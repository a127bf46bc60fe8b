"""A process that delivers batches as a worker does: the next one when the last one is delivered, and that is noted.

usage: deliverer.py URL PASSWORD BATCHES DONE

BATCHES: pickled. DONE: a file with one line for each batch that is delivered: the refused events and their reasons.
"""

import json
import pickle
import sys
import time
from pathlib import Path

from sinks.base import Refused, SinkUnavailable
from sinks.registry import open_sink


def main(url: str, password: str, batches_file: str, done_file: str) -> None:
    """Begins where the last one was killed."""
    batches = pickle.loads(Path(batches_file).read_bytes())
    sink = open_sink(url, password=password or None)
    with open(done_file, "a+") as done:
        done.seek(0)
        delivered = sum(line.endswith("\n") for line in done)
        for batch in batches[delivered:]:
            while True:
                try:
                    results = sink.write(batch)
                    break
                except SinkUnavailable as error:
                    time.sleep(error.retry_after or 0.2)
            refused = {one.event_id: one.reason.value for one in results if isinstance(one, Refused)}
            done.write(json.dumps(refused) + "\n")
            done.flush()
    sink.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
