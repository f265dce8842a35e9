"""The training text: Jane Austen's six novels (public domain), from Debian's r-cran-janeaustenr.

One novel (Persuasion) is kept out for validation. Lines of a paragraph are joined, paragraphs are
separated by a newline, and everything stays UTF-8 bytes: a token is a byte.
"""
import subprocess

TRAINING = ["sensesensibility", "prideprejudice", "mansfieldpark", "emma", "northangerabbey"]
VALIDATION = "persuasion"


def novel(name: str) -> bytes:
    """Returns one novel as UTF-8 with one paragraph a line."""
    script = f"cat(enc2utf8(janeaustenr::{name}), sep='\\n')"
    lines = subprocess.run(["Rscript", "--vanilla", "-e", script], check=True,
                           capture_output=True, env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}).stdout
    paragraphs, current = [], []
    for line in lines.decode("utf-8").split("\n") + [""]:
        if line.strip():
            current.append(line.strip())
        elif current:
            paragraphs.append(" ".join(current))
            current = []
    return ("\n".join(paragraphs) + "\n").encode("utf-8")


def training_text() -> bytes:
    return b"".join(novel(name) for name in TRAINING)


def validation_text() -> bytes:
    return novel(VALIDATION)
