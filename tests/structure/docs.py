#!/usr/bin/env python3
"""Every path that a document names exists, and every C++ block in it compiles."""
import re
import sys

import compiler

LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
QUOTED = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
PATH = re.compile(r"[\w.-]+(/[\w.-]+)+/?|[\w.-]+/")
FILE = re.compile(r"[\w-]+\.(md|hpp|cpp|py|cmake)")  # without a folder: any file of that name will do


def files(root):
    """The files of the repository, without what is built."""
    return [path for top in sorted(root.iterdir()) if top.name not in ("build", ".git") for path in ([top] if top.is_file() else top.rglob("*"))]


def missing_paths(root, names_of_files, document, text):
    """Links, and what stands in backticks and looks like a path, from the root, the document's folder or include/agilequant."""
    prose = FENCE.sub("", text)
    names = {name for name in LINK.findall(prose) if "://" not in name and not name.startswith("mailto:")}
    for quoted in QUOTED.findall(prose):
        for name in quoted.split():
            name = name.removeprefix("./")
            looks = PATH.fullmatch(name)
            sure = name.endswith("/") or re.search(r"\.\w+$", name) or (root / name.split("/")[0]).exists()
            if FILE.fullmatch(name):
                names |= {name} - names_of_files
            elif looks and sure and not name.startswith(("build/", "../shared", "agilequant/")):
                names.add(name)
            elif looks and name.startswith("agilequant/"):
                names.add("include/" + name)
    bases = (root, document.parent, root / "include" / "agilequant")
    return sorted(name for name in names if not any((base / name).exists() for base in bases))


def block_error(args, block):
    """Compiles a block: as it is when it has a main, else as the body of a function, else as declarations."""
    argv = compiler.command(args, "-fsyntax-only")
    if "int main(" in block:
        good, text = compiler.run(argv, block)
        return None if good else text
    lines = block.splitlines()
    top = "#include <agilequant/agilequant.hpp>\n" + "\n".join(line for line in lines if line.startswith("#include")) + "\n"
    body = "\n".join(line for line in lines if not line.startswith("#include"))
    good, text = compiler.run(argv, top + "void block() {\n" + body + "\n}\n")
    if good or compiler.run(argv, top + body + "\n")[0]:
        return None
    return text


def main():
    args = compiler.arguments(__doc__)
    findings, jobs = [], []
    present = files(args.root)
    names_of_files = {path.name for path in present}
    for document in (path for path in present if path.suffix == ".md"):
        text, name = document.read_text(), document.relative_to(args.root)
        findings += [f"{name}: there is no {path}" for path in missing_paths(args.root, names_of_files, document, text)]
        jobs += [(name, number, block) for number, (language, block) in enumerate(FENCE.findall(text), 1) if language == "cpp"]
    errors = compiler.in_parallel(lambda job: block_error(args, job[2]), jobs)
    findings += [f"{name}: block {number} does not compile:\n{error}" for (name, number, _), error in zip(jobs, errors) if error]
    print("\n".join(findings) or f"{len(jobs)} blocks compile, all paths exist")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
