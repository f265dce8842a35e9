#!/usr/bin/env python3
"""Modelled cycles of agilequant's kernels for 64-bit Arm, without an Arm machine: docs/arm-model.md.

Compiles the driver product.cpp, runs every case in qemu with a plugin that counts executed blocks, and sums what a model of the
core's pipes says of each block. Prints a table; writes it as JSON beside the build."""
import argparse
import concurrent.futures
import pathlib
import re
import sys
import time

import cases
import measure
import port_model
import stored
import toolchain

STORED_TABLE = toolchain.HERE / "cycles.json"
GCC_MAY_BE_BEHIND = 0.12


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compiler", choices=toolchain.COMPILERS, default="clang")
    parser.add_argument("--filter", default="", metavar="REGEX", help="only cases whose name has this in it (--list shows names)")
    parser.add_argument("--jobs", type=int, default=1, help="cases at a time")
    parser.add_argument("--build", type=pathlib.Path, default=toolchain.ROOT / "build" / "arm-model", help="folder of what is built")
    parser.add_argument("--check", type=pathlib.Path, nargs="?", const=STORED_TABLE, metavar="FILE",
                        help="fail where a case grew by more than 2 %% against this table, or where an inner loop keeps vectors on the stack")
    parser.add_argument("--store", type=pathlib.Path, nargs="?", const=STORED_TABLE, metavar="FILE", help="write the figures to this table")
    parser.add_argument("--blocks", type=int, default=0, metavar="N", help="show the N blocks of each case that take the most cycles")
    parser.add_argument("--list", action="store_true", help="only show the names")
    return parser.parse_args()


def measure_all(measured, wanted, jobs):
    """Results in the order of `wanted`, without those of absent instruction sets. Says how far it is."""
    results, start = {}, time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(measured, case): case for case in wanted}
        for done in concurrent.futures.as_completed(running):
            case = running[done]
            try:
                result = results[case] = done.result()
            except RuntimeError as error:
                pool.shutdown(cancel_futures=True)
                sys.exit(f"{case.name}: {error}")
            figures = "absent" if result is None else "  ".join(f"{core} {value:.2f}" for core, value in result.cycles.items())
            print(f"[{len(results)}/{len(wanted)}, {time.monotonic() - start:.0f} s] {case.name}: {figures}", file=sys.stderr, flush=True)
    return [results[case] for case in wanted if results[case] is not None]


def wrong_results(results):
    """A sentence for each case whose result differs from another instruction set's."""
    first, sentences = {}, []
    for result in results:
        case = result.case
        other = first.setdefault((case.format, case.m, case.n), result)
        if other.checksum != result.checksum:
            sentences.append(f"{case.name} has not the bits of {other.case.name}.")
    return sentences


# ---------------------------------------------------------------------------------------------------------------------- tables

def behind(compiler, other_section, result):
    """How far gcc is behind clang on the first model, as a share; None where the other compiler's figure is not stored."""
    core = next(iter(result.cycles))
    other = other_section.get("cases", {}).get(result.case.name, {}).get(core)
    if other is None:
        return None
    gcc, clang = (result.cycles[core], other) if compiler == "gcc" else (other, result.cycles[core])
    return gcc / clang - 1


def product_table(isa, results, compiler, other_section):
    models, in_order = cases.ISAS[isa].models, [cpu.rpartition("-")[2].upper() for cpu in cases.ISAS[isa].in_order]
    head = ["case"]
    for core, limit in models.items():
        head += [port_model.CORES[core].name, f"% of limit {limit:.4g}"]
    head += [f"{core}, inner loop" for core in in_order] + ["gcc behind clang"]
    rows = []
    for result in results:
        case, share = result.case, behind(compiler, other_section, result)
        row = [f"{case.format}{', packed multiplier' if case.is_packed else ''}, M = {case.m}"]
        for core, limit in models.items():
            row += [f"{result.cycles[core]:.1f}", f"{100 * limit / result.cycles[core]:.0f}"]
        row += [f"{result.in_order[core]:.0f}" for core in in_order]
        rows.append(row + ["" if share is None else f"{100 * share:+.1f} %"])
    return markdown(head, rows)


def quantize_table(results):
    cores = list(port_model.CORES)
    rows = [[f"{r.case.isa}, {r.case.format}", *(f"{r.cycles[core]:.2f}" if core in r.cycles else "" for core in cores)] for r in results]
    return markdown(["quantizing", *(port_model.CORES[core].name for core in cores)], rows)


def markdown(head, rows):
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(results, compiler, version, other_section):
    print(f"\nModelled cycles, {version}, K = {cases.DEPTH}")
    for isa in cases.ISAS:
        own = [result for result in results if result.case.isa == isa and result.case.is_product]
        if own:
            print(f"\n{isa}: cycles for 1000 multiply-accumulates\n\n{product_table(isa, own, compiler, other_section)}")
    own = [result for result in results if not result.case.is_product]
    if own:
        print(f"\nCycles for one value that is quantized\n\n{quantize_table(own)}")


# -------------------------------------------------------------------------------------------------------------------------- main

def verdict(args, wanted, results, other_section):
    """(failures, notes): sentences."""
    failures = wrong_results(results)
    absent = {case.isa for case in wanted} - {result.case.isa for result in results}
    notes = [f"This build has no {isa}." for isa in sorted(absent)]
    for result in results:
        share = behind(args.compiler, other_section, result)
        if share is not None and share > GCC_MAY_BE_BEHIND:
            notes.append(f"{result.case.name}: gcc is {100 * share:.1f} % behind clang.")
    spilled = [f"{result.case.name}: {sentence}" for result in results for sentence in result.spills]
    if args.check is None:
        return failures, notes + spilled
    section = stored.load(args.check).get(args.compiler)
    if section is None:
        return failures + spilled + [f"{args.check} has no section for {args.compiler}: --store writes one."], notes
    grown, changed = stored.compare(section, results, [case.name for case in wanted])
    return failures + spilled + grown, notes + changed


def main():
    args = arguments()
    wanted = [case for case in cases.all_cases() if re.search(args.filter, case.name)]
    if not wanted:
        sys.exit("No case has this in its name; --list shows the names.")
    if args.list:
        print("\n".join(case.name for case in wanted))
        return
    built = toolchain.build(args.compiler, args.build)
    results = measure_all(measure.Measure(built, args.build / f"blocks-{args.compiler}"), wanted, args.jobs)
    other_section = stored.load(args.check or args.store or STORED_TABLE).get("gcc" if args.compiler == "clang" else "clang", {})
    if args.blocks:
        print("\n\n".join(measure.hottest(result, core, args.blocks) for result in results for core in result.cycles))
    report(results, args.compiler, built.compiler, other_section)
    (args.build / f"cycles-{args.compiler}.json").write_text(
        stored.text_of({args.compiler: {"compiler": built.compiler, "cases": {r.case.name: stored.figures(r) for r in results}}}))
    failures, notes = verdict(args, wanted, results, other_section)
    for title, sentences in (("Notes", notes), ("Failures", failures)):
        if sentences:
            print(f"\n{title}\n\n" + "\n".join(f"- {sentence}" for sentence in sentences))
    if args.store:
        stored.store(args.store, args.compiler, built.compiler, results)
        print(f"\nStored in {args.store}.")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
