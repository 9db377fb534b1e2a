"""Checks a bill of materials of the host; names what is wrong with it and exits with 1.

It must be CycloneDX 1.5 and tell of every package that cargo links into the binary, with the licence, and with the checksum of
Cargo.lock. It may name more: its tool takes the features of the whole workspace together, cargo those that the host asks for.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Without what only the compiler runs. https://doc.rust-lang.org/cargo/commands/cargo-tree.html
TREE = "cargo tree --locked --package revnoxa-host --edges normal,no-proc-macro --prefix none".split()
LOCKED = re.compile(r'name = "(.+)"\nversion = "(.+)"\nsource = ".+"\nchecksum = "(.+)"')


def main():
    bill = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    tree = subprocess.run(TREE, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    linked = {tuple(line.replace(" v", " ", 1).split(" ")[:2]) for line in tree.splitlines() if line}
    lock = (ROOT / "Cargo.lock").read_text("utf-8")
    checksums = {(name, version): checksum for name, version, checksum in LOCKED.findall(lock)}
    if len(linked) < 100 or len(checksums) < len(linked):
        sys.exit(f"{len(linked)} packages are linked, {len(checksums)} locked: does this still read what cargo writes?")
    failures = [*of_form(bill), *of_packages(bill, linked, checksums)]
    if failures:
        sys.exit("\n".join(failures))
    print(f"{len(bill['components'])} packages, among them the {len(linked)} that are linked")


def of_form(bill):
    """https://cyclonedx.org/docs/1.5/json/"""
    own = bill["metadata"]["component"]
    for what, found, wanted in [
        ("bomFormat", bill["bomFormat"], "CycloneDX"),
        ("specVersion", bill["specVersion"], "1.5"),
        ("the name", own["name"], "revnoxa-host"),
        ("the type", own["type"], "application"),
    ]:
        if found != wanted:
            yield f"{what} is {found!r} instead of {wanted!r}"
    references = [own["bom-ref"], *(component["bom-ref"] for component in bill["components"])]
    if len(set(references)) < len(references):
        yield "a bom-ref stands for two components"
    for depends in bill["dependencies"]:
        for reference in {depends["ref"], *depends.get("dependsOn", [])} - set(references):
            yield f"there is no {reference}, which something depends on"


def of_packages(bill, linked, checksums):
    named = {(component["name"], component["version"]): component for component in bill["components"]}
    own = bill["metadata"]["component"]
    for package in sorted(linked - {(own["name"], own["version"])}):
        if named.get(package, {}).get("scope") != "required":
            yield f"{' '.join(package)} is linked, and not said to be"
    for package, component in named.items():
        if package not in checksums:
            continue
        hashes = [(hash["alg"], hash["content"]) for hash in component.get("hashes", [])]
        if hashes != [("SHA-256", checksums[package])]:
            yield f"{' '.join(package)} has {hashes}, in Cargo.lock {checksums[package]}"
        if not component.get("licenses"):
            yield f"{' '.join(package)} has no licence"


if __name__ == "__main__":
    main()
