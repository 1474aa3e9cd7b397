#!/usr/bin/env python3
"""Plants faults into what decides about placements; the simulation must notice each of them.

    mutations.py SOURCE_ROOT COMPILER [LIBRARY FLAGS...]

A fault is a change of a copy of the source, built with the simulation and run over seeds. The
program without a fault must pass the same seeds. Prints a line for each in cmocka's form.
"""

import pathlib
import subprocess
import sys
import tempfile

SOURCES = ["placement.c", "service_core.c", "part_table.c"]
SIMULATION = ["cluster/sim_world.c", "cluster/sim_check.c", "cluster/test_placements.c",
              "engine/fake.c"]
SEEDS = "4000"

# name: [(file, what stands there, what the fault makes of it)]
FAULTS = {
    "events_of_another_epoch_count": [
        ("placement.c", "event->epoch != p->epoch || ", ""),
        ("service_core.c", "s->used[i] && s->placements[i].epoch == epoch",
         "s->used[i] && s->placements[i].epoch >= epoch")],
    "loading_without_a_deadline": [
        ("placement.c", "!(loading && p->ranks[r].loaded) && now", "!loading && now")],
    "connecting_without_a_deadline": [
        ("placement.c", "now - p->since_ns > l->connect_ns", "now < p->since_ns")],
    "draining_without_a_deadline": [
        ("placement.c", "p->state == PLACEMENT_DRAINING && now - p->since_ns > l->drain_ns",
         "p->state == PLACEMENT_DRAINING && now < p->since_ns")],
    "the_first_rank_is_never_unloaded": [
        ("placement.c", "for (int r = 0; r < p->n_ranks; r++) {\n        if (!p->ranks[r].gone)",
         "for (int r = 1; r < p->n_ranks; r++) {\n        if (!p->ranks[r].gone)")],
    "ranks_are_unloaded_twice": [
        ("placement.c", "            emit(out, p, PLACEMENT_UNLOAD, r);",
         "            emit(out, p, PLACEMENT_UNLOAD, r);\n"
         "            emit(out, p, PLACEMENT_UNLOAD, r);")],
    "the_old_placement_goes_on_serving": [
        ("service_core.c", ".kind = PLACEMENT_REPLACED", ".kind = PLACEMENT_TICK")],
    "waiting_requests_are_forgotten": [
        ("service_core.c", "        emit(out, SERVICE_FAIL, s->epoch);\n", "")],
    "waiting_without_an_end": [
        ("service_core.c", "s->suspended && now >= s->suspend_until", "s->suspended && now == 0")],
    "no_attempt_after_a_loss": [
        ("service_core.c", "        plan(s, out);\n    }\n    retry_later(s, now);",
         "        plan(s, out);\n    }\n    (void)retry_later;")],
    "served_before_it_is_connected": [
        ("placement.c", "!rank->serving || !rank->wired", "!rank->serving")],
    "a_hang_is_movement": [
        ("placement.c", "!event->busy || event->progress != rank->progress", "true")],
    "an_order_behind_its_end_is_obeyed": [
        ("part_table.c", "epoch <= t->ends[i].epoch", "epoch < t->ends[i].epoch")],
    "a_draining_executor_is_not_broken": [
        ("placement.c", "p->state == PLACEMENT_SERVING ||\n           p->state == PLACEMENT_DRAINING;",
         "p->state == PLACEMENT_SERVING;")],
    "the_wrong_engine_goes_on": [
        ("service_core.c", "p->resumes = s->suspended;", "p->resumes = true;")],
    "a_lost_device_is_no_loss": [
        ("placement.c", "        rank->gone = true;\n        end_for", "        if (0) end_for")],
}


def build(root, compiler, libraries, folder, changes):
    for name in SOURCES:
        text = (root / "src/cluster" / name).read_text()
        for file, old, new in changes:
            if file == name:
                if text.count(old) != 1:
                    sys.exit(f"{name}: the place of a fault is not there once: {old!r}")
                text = text.replace(old, new)
        (folder / name).write_text(text)
    program = folder / "simulation"
    files = [folder / n for n in SOURCES] + [root / "tests" / n for n in SIMULATION]
    subprocess.run([*compiler, "-O2", "-w", "-std=c11", "-D_GNU_SOURCE", f"-I{root}/src",
                    f"-I{root}", *files, *libraries, "-o", program], check=True)
    return program


def passes(program):
    return subprocess.run([program, "1", SEEDS], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, timeout=300).returncode == 0


def main():
    root = pathlib.Path(sys.argv[1])
    compiler, libraries = sys.argv[2].split(), sys.argv[3:]
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        cases = {"without_a_fault": [], **FAULTS}
        for name, changes in cases.items():
            good = passes(build(root, compiler, libraries, folder, changes)) == (not changes)
            print(f"[{'       OK' if good else '  FAILED '} ] {name}", flush=True)
            failed += not good
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
