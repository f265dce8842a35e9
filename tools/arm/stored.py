"""The stored table of modelled cycles: a section for each compiler, a line for each case; and what has changed since."""
import json

ALLOWED = 0.02  # growth


def load(path):
    return json.loads(path.read_text()) if path.exists() else {}


def figures(result):
    """What is stored of a case."""
    return {core: round(value, 3) for core, value in {**result.cycles, **result.in_order}.items()}


def store(path, compiler, version, results):
    """Replaces the figures of these cases, and no others."""
    table = load(path)
    section = table.setdefault(compiler, {"compiler": version, "cases": {}})
    section["compiler"] = version
    section["cases"].update({result.case.name: figures(result) for result in results})
    path.write_text(text_of(table))


def text_of(table):
    """JSON with a line for each case, so that a change of one shows as one."""
    sections = []
    for compiler, section in sorted(table.items()):
        lines = ",\n".join(f"   {json.dumps(name)}: {json.dumps(value)}" for name, value in sorted(section["cases"].items()))
        sections.append(f' {json.dumps(compiler)}: {{"compiler": {json.dumps(section["compiler"])}, "cases": {{\n{lines}\n }}}}')
    return "{\n" + ",\n".join(sections) + "\n}\n"


def compare(section, results, expected_names):
    """(failures, notes) against a compiler's section: sentences. `expected_names` are the cases that were to be measured."""
    failures, notes = [], []
    measured = {result.case.name: result for result in results}
    for name in expected_names:
        old = section["cases"].get(name)
        if name not in measured:
            failures += [f"{name} is in the stored table and was not measured."] if old else []
        elif old is None:
            notes.append(f"{name} is not in the stored table: --store adds it.")
        else:
            for core, value in measured[name].cycles.items():
                judge(name, core, old.get(core), value, failures, notes)
    return failures, notes


def judge(name, core, old, new, failures, notes):
    if old is None:
        notes.append(f"{name} on {core} is not in the stored table: --store adds it.")
    elif new > old * (1 + ALLOWED):
        failures.append(f"{name} on {core} grew by {100 * (new / old - 1):.1f} %: {old:.2f} -> {new:.2f}.")
    elif new < old * (1 - ALLOWED):
        notes.append(f"{name} on {core} fell by {100 * (1 - new / old):.1f} %: {old:.2f} -> {new:.2f}; --store keeps the new figure.")
