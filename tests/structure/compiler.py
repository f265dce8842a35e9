"""What the checks that call the compiler share: its command line and running many calls at a time."""
import argparse
import concurrent.futures
import os
import pathlib
import subprocess

WARNINGS = "-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror".split()


def arguments(description, *flags):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--compiler", required=True)
    parser.add_argument("--target", default="", help="the architecture, where the compiler has to be told")
    parser.add_argument("--std", default="c++17")
    parser.add_argument("--root", type=pathlib.Path, required=True, help="the repository")
    parser.add_argument("--xsimd", required=True, help="the directory that holds xsimd/xsimd.hpp")
    for name, text in flags:
        parser.add_argument(name, action="store_true", help=text)
    return parser.parse_args()


def command(args, *options):
    target = [f"--target={args.target}"] if args.target else []
    # -idirafter: harmless where the directory is searched anyway
    return [args.compiler, *target, f"-std={args.std}", "-I", str(args.root / "include"), "-idirafter", args.xsimd, *options]


def run(argv, source):
    """Gives source to the compiler's standard input. Returns (success, what it printed)."""
    done = subprocess.run([*argv, "-x", "c++", "-"], input=source, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode == 0, done.stdout


def in_parallel(function, items):
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(function, items))
