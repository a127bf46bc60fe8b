"""Real workers on a real Kafka and real databases, with everything around them breaking.

- `stream`: records made from a seed, and what must come of any topic's records, computed from the topic alone.
- `world`: a topic, a group, a database, workers that start quickly, and `check`, which holds one against the other.
- `tests.support.gate` is the network between a worker and a server, `tests.support.faulty_worker` has the faults inside
  a worker.

A short version is part of every test run; `make faults` runs the long one. Both draw a seed, print it, and say with a
failure how to have the same again.
"""
