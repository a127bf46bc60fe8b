"""`make mutants SEED=1 COUNT=100`: change the money path in COUNT places, one at a time, and run the unit tests.

Exits with 0 if at least 95 % of the mutants are noticed and every survivor is listed in `survivors.toml` with the
reason why it changes nothing; else with 1. The same seed draws the same mutants of the same code.
"""

import argparse
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from tests.mutation.mutants import Mutant, modules, mutants_of, sample
from tests.mutation.reach import Reach, environment, measure

ROOT = Path(__file__).parents[2]
WANTED = 0.95
#: Seconds after which a mutant counts as noticed: it loops.
PATIENCE = 300


@dataclass(frozen=True)
class Verdict:
    """Whether the tests noticed a mutant, and by what."""

    mutant: Mutant
    noticed: bool
    how: str
    diff: str
    reason: str | None = None


def main() -> int:
    """Draw, run, report."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("modules", nargs="*", help="modules or folders, instead of the whole money path")
    args = parser.parse_args()
    with TemporaryDirectory(prefix="mutants-") as folder:
        work = Path(folder)
        roots = [_copy(work / str(number)) for number in range(args.jobs)]
        drawn = sample(
            ROOT, (mutant for module in modules(ROOT, args.modules) for mutant in mutants_of(ROOT, module)),
            args.count, args.seed,
        )  # fmt: skip
        print(f"{len(drawn)} mutants, seed {args.seed}. First all unit tests, to see which reach what.", flush=True)
        reach = measure(roots[0], work)
        return _report(_run(drawn, roots, reach))


def _copy(folder: Path) -> Path:
    """Copy the project's files, changed ones as they are."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in names.split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def _run(drawn: list[Mutant], roots: list[Path], reach: Reach) -> list[Verdict]:
    known = _known()
    free: SimpleQueue[Path] = SimpleQueue()
    for root in roots:
        free.put(root)

    def judge(mutant: Mutant) -> Verdict:
        root = free.get()
        try:
            verdict = _judge(mutant, root, reach, known)
        finally:
            free.put(root)
        word = "noticed " if verdict.noticed else "listed  " if verdict.reason else "SURVIVED"
        print(f"{word} {mutant.module}:{mutant.first_line} {mutant.operator} ({verdict.how})", flush=True)
        return verdict

    with ThreadPoolExecutor(len(roots)) as pool:
        return list(pool.map(judge, drawn))


def _judge(mutant: Mutant, root: Path, reach: Reach, known: dict[tuple[str, str], str]) -> Verdict:
    before, after = mutant.apply(root)
    lines = list(unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0))[2:]
    diff = "\n".join(line for line in lines if not line.startswith("@@"))
    tests = reach.tests(mutant.module, mutant.first_line, mutant.last_line)
    if not tests:
        return Verdict(mutant, False, "no unit test reaches it", diff, known.get((mutant.module, diff)))
    file = root / mutant.module
    file.write_text(after, encoding="utf-8")
    try:
        noticed, how = _test(root, tests)
    finally:
        file.write_text(before, encoding="utf-8")
    return Verdict(mutant, noticed, how, diff, None if noticed else known.get((mutant.module, diff)))


def _test(root: Path, tests: list[str]) -> tuple[bool, str]:
    ids = root / "ids.txt"
    ids.write_text("\n".join(tests), encoding="utf-8")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", f"@{ids}"],
            cwd=root, env=environment(root), capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return True, f"not done after {PATIENCE} s"
    if done.returncode == 0:
        return False, f"{len(tests)} tests pass"
    last = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return True, last[0].split(" - ")[0].removeprefix("FAILED ") if last else f"exit code {done.returncode}"


def _known() -> dict[tuple[str, str], str]:
    """Return the reasons of survivors that change nothing, by module and by the lines they change."""
    listed = tomllib.loads((ROOT / "tests/mutation/survivors.toml").read_text(encoding="utf-8"))["survivors"]
    return {(one["module"], one["diff"].strip("\n")): one["reason"] for one in listed}


def _report(verdicts: list[Verdict]) -> int:
    survivors = [verdict for verdict in verdicts if not verdict.noticed]
    unlisted = [verdict for verdict in survivors if verdict.reason is None]
    for verdict in survivors:
        print(f"\n{verdict.mutant.module}:{verdict.mutant.first_line} {verdict.mutant.operator} ({verdict.how})")
        print(verdict.diff)
        print(f"    {verdict.reason or 'not in tests/mutation/survivors.toml'}")
    share = 1 - len(survivors) / len(verdicts)
    print(f"\n{len(verdicts) - len(survivors)} of {len(verdicts)} noticed ({share:.1%}), {len(unlisted)} not listed")
    return 0 if share >= WANTED and not unlisted else 1


if __name__ == "__main__":
    sys.exit(main())
