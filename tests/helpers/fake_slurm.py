"""Programs named sbatch, squeue, scontrol and scancel that pretend to be a cluster, for tests without one."""

from __future__ import annotations

from pathlib import Path

PROGRAM = """#!/usr/bin/env python3
import json, pathlib, re, sys
state = pathlib.Path({state!r})
known = json.loads(state.read_text())
what, arguments = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
if what == "sbatch":
    if len(known["jobs"]) == known["refuse_from"]:
        sys.exit("sbatch: error: Batch job submission failed: Job violates accounting/QOS policy")
    script = pathlib.Path(arguments[-1]).read_text()
    array = re.search(r"--array=0-(\\d+)", script)
    size = int(array[1]) + 1 if array else 0
    if size > known["max_array"]:
        sys.exit("sbatch: error: Batch job submission failed: Invalid job array specification")
    known["jobs"].append({{"size": size, "script": script}})
    print(known["answer"] or f"Submitted batch job {{len(known['jobs'])}}")
elif what == "squeue":
    for number, job in enumerate(known["jobs"], start=1):
        name = re.search(r"--job-name=(\\S+)", job["script"])[1]
        ids = [f"{{number}}_{{i}}" for i in range(job["size"])] or [str(number)]
        for one in ids:
            if one not in known["gone"]:
                comment = re.search(r"--comment=(?:'([^']*)'|(\\S+))", job["script"])
                print(one, name, "PD", known["reason"], comment and (comment[1] or comment[2]), sep="|")
elif what == "scontrol":
    print("MaxArraySize            =", known["max_array"])
elif what == "scancel":
    for number, job in enumerate(known["jobs"], start=1):
        if str(number) in arguments:
            known["gone"] += [f"{{number}}_{{i}}" for i in range(job["size"])] or [str(number)]
state.write_text(json.dumps(known))
"""


def install(folder: Path, max_array: int = 1001, refuse_from: int = -1) -> Path:
    """Write the programs into ``folder`` and return the file that holds the cluster's state."""
    import json

    folder.mkdir(parents=True)
    state = folder / "state.json"
    known: dict[str, object] = {"jobs": [], "gone": [], "max_array": max_array, "refuse_from": refuse_from}
    known |= {"reason": "None", "answer": ""}
    state.write_text(json.dumps(known))
    for name in ("sbatch", "squeue", "scontrol", "scancel", "srun", "sacct"):
        program = folder / name
        program.write_text(PROGRAM.format(state=str(state)))
        program.chmod(0o755)
    return state
