"""Twenty bugs, planted one by one in a copy of the code; each must be caught by the test that is named.

    python tests/faults/planted.py      # about 3 minutes; says which were not caught, and exits with 1

They stand for what may go wrong without anybody noticing in run folders, data and launching: a check that no
longer checks, a file that is no longer whole, a run that is computed twice or never.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]

RUNS, STORAGE = "tests/runs/test_runs.py", "tests/faults/test_storage.py"
LAUNCH, LOOP = "tests/launch/test_launch.py", "tests/training/test_loop.py"
REGISTRY, ORDER = "tests/datasets/test_registry.py", "tests/datasets/test_order.py"

BUGS: tuple[tuple[str, str, str, str], ...] = (
    # file, what stands there, what is planted, the test that catches it
    (
        "o2obench/runs/lock.py",
        "            with naming(folder.lock):\n                self.lease.acquire()",
        "            pass",
        f"{RUNS}::test_another_process_cannot_take_a_run_that_is_computed",
    ),
    (
        "o2obench/runs/checkpoint.py",
        'manifest["sha256"] != sha256(file, most=None)',
        "False",
        f"{STORAGE}::test_60_flipped_bits_are_named_or_without_effect",
    ),
    (
        "o2obench/runs/checkpoint.py",
        '_digest(manifest["values"])',
        'manifest["values_sha256"]',
        f"{STORAGE}::test_60_flipped_bits_are_named_or_without_effect",
    ),
    (
        "o2obench/runs/jsonl.py",
        "        return content if hashlib.sha256(content).hexdigest() == self.sha256 else None",
        "        return content",
        f"{STORAGE}::test_a_log_changed_before_its_mark_is_named_and_written_again",
    ),
    (
        "o2obench/runs/jsonl.py",
        "read_plain(path)[: self.length]",
        "read_plain(path)",
        f"{STORAGE}::test_what_stands_behind_the_checkpoint_is_dropped",
    ),
    (
        "o2obench/util/files.py",
        "            os.replace(temporary, path)",
        "            path.write_bytes(data)\n            temporary.unlink()",
        "tests/util/test_files.py::test_who_reads_a_file_that_is_replaced_reads_the_old_one_to_its_end",
    ),
    (
        "o2obench/runs/lock.py",
        "        if not self.is_held():\n            with contextlib",
        "        if False:\n            with contextlib",
        f"{STORAGE}::test_a_run_whose_folder_vanishes_stops_with_its_name",
    ),
    (
        "o2obench/training/loop.py",
        '"clock": asdict(self.clock)',
        '"clock": asdict(Clock())',
        f"{LOOP}::test_a_seed_batch_interrupted_goes_on_as_a_seed_batch_or_alone",
    ),
    (
        "o2obench/training/loop.py",
        "if due and not (total and done >= total):",
        "if due:",
        f"{LOOP}::test_rows_of_a_run_stand_at_the_clocks_of_the_protocol",
    ),
    (
        "o2obench/envs/episode.py",
        "        self._reset(self.episode + 1)\n        return row, finished",
        "        self._reset(self.episode)\n        return row, finished",
        f"{LOOP}::test_every_episode_starts_from_a_state_of_its_own",
    ),
    (
        "o2obench/training/evaluation.py",
        "first + i % self.width",
        "i % self.width",
        f"{LOOP}::test_every_episode_starts_from_a_state_of_its_own",
    ),
    (
        "o2obench/runs/verify.py",
        "        elif sha256(file) != hashes[name]:",
        "        elif False:",
        "tests/maintenance/test_maintenance.py::test_no_flipped_bit_of_a_finished_run_goes_unnoticed",
    ),
    (
        "o2obench/datasets/validation.py",
        "    _successors(columns, findings)\n",
        "",
        f"{ORDER}::test_shuffled_rows_are_refused",
    ),
    (
        "o2obench/datasets/registry.py",
        'return validation.mark_ends(columns) if validation.UNMARKED in " ".join(notes) else columns',
        "return columns",
        f"{ORDER}::test_a_few_unmarked_ends_are_taken_for_time_outs_and_not_learnt_over",
    ),
    (
        "o2obench/datasets/registry.py",
        "        if sha256 is not None and sha256 != self.sha256():",
        "        if False:",
        f"{REGISTRY}::test_other_bytes_than_planned_are_refused",
    ),
    (
        "o2obench/launch/local.py",
        "            if run.parent is not None and not is_done(run.parent):",
        "            if False:",
        f"{LAUNCH}::test_a_worker_stopped_from_outside_is_not_started_again",
    ),
    (
        "o2obench/launch/local.py",
        "        elif code == INTERRUPTED or (ending and died):",
        "        elif False:",
        f"{LAUNCH}::test_a_worker_stopped_from_outside_is_not_started_again",
    ),
    (
        "o2obench/launch/slurm.py",
        "            self._require_all_noted(noted, found or [])\n",
        "",
        f"{LAUNCH}::test_an_answer_of_sbatch_that_names_no_job_submits_nothing_twice",
    ),
    (
        "o2obench/launch/slurm.py",
        'return f"aftercorr:{whole}" if one_by_one else f"afterok:{jobs[0]}"',
        'return ""',
        f"{LAUNCH}::test_the_dry_run_prints_what_is_submitted",
    ),
    (
        "o2obench/launch/slurm.py",
        "run.id not in queued]\n    missing",
        "True]\n    missing",
        f"{LAUNCH}::test_a_refused_half_is_submitted_later",
    ),
)


def caught(copy: Path, bug: tuple[str, str, str, str]) -> str:
    """Plant a bug, run its test, take the bug out again; return the first line of the failure, or nothing."""
    name, before, planted, test = bug
    file = copy / name
    text = file.read_text()
    if text.count(before) != 1:
        raise SystemExit(
            f"{name}: {before.strip()!r} stands there {text.count(before)} times; mend this list"
        )
    file.write_text(text.replace(before, planted))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", test]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    file.write_text(text)
    failures = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failures[0] if done.returncode == 1 and failures else ""


def main() -> int:
    """Plant all bugs, one after the other."""
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "code")
        ignored = shutil.ignore_patterns(".venv", ".git", "results", "reports", "__pycache__", ".mypy_cache")
        shutil.copytree(ROOT, copy, ignore=ignored)
        for bug in BUGS:
            found = caught(copy, bug)
            missed += not found
            print(
                f"{'caught ' if found else 'MISSED '} {bug[0]}: {bug[1].strip()[:50]!r}: {found or bug[3]}",
                flush=True,
            )
    print(f"{len(BUGS) - missed} of {len(BUGS)} planted bugs were caught")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
