"""
Have libvirt take the emulator for a QEMU, with the domain of `docs/libvirt.md`: what that page says works is done here.

Run by `.ci/libvirt`, as root in namespaces of its own: `python -m tests.libvirt.migrate EMULATOR FOLDER`,
where FOLDER is empty.
"""

import json
import lzma
import re
import sys
import time
from pathlib import Path

from tests.libvirt.hosts import Host, HostError

_ROOT = Path(__file__).resolve().parents[2]
_PAGE = _ROOT / "docs/libvirt.md"
_PROFILE = _ROOT / "vfio_migration/emulator/profile/bundled/qemu-11.1.3.json.xz"
_REFUSED = "Parameter 'detach' is unexpected"
_RUNNING, _PAUSED, _GONE = "running", "paused", "failed to get domain 'vm0'"


class NotAsExpectedError(HostError):
    """libvirt did something else than expected."""


def say(text: str) -> None:
    """Print what is being done."""
    print(text, flush=True)  # noqa: T201 - a script's output


def do(host: Host, *words: str, fails: str | None = None) -> str:
    """Have virsh do something that must succeed, or fail with these words; gives what it printed."""
    begun = time.monotonic()
    done = host.virsh(*words)
    say(f"{host.name}: virsh {' '.join(words)} ({time.monotonic() - begun:.1f} s)")
    if (done.returncode == 0) != (fails is None) or (fails or "") not in done.stdout:
        raise NotAsExpectedError(f"expected {'success' if fails is None else fails!r}, got:\n{done.stdout}")
    return done.stdout


def expect(host: Host, state: str) -> None:
    """Check what a host says of the domain."""
    found = host.virsh("domstate", "vm0").stdout
    if state not in found:
        raise NotAsExpectedError(f"{host.name}: expected {state!r}, got {found!r}")


def block(language: str) -> str:
    """Give the first example in a language from the page."""
    found = re.search(rf"^```{language}\n(.*?)^```", _PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found is not None, language
    return found[1]


def domain(emulator: str, folder: Path, *, environment: str = "") -> str:
    """Write down the page's domain, with this emulator; gives the file."""
    scenario = folder / "vm0.toml"
    scenario.write_text(block("toml"), encoding="utf-8")
    text = block("xml").replace("/usr/local/bin/vfio-switchover-qemu", emulator)
    text = text.replace("/etc/vfio-switchover/vm0.toml", str(scenario))
    text = text.replace("</qemu:commandline>", f"{environment}</qemu:commandline>")
    file = folder / "vm0.xml"
    file.write_text(text, encoding="utf-8")
    return str(file)


def profile_with_detach(folder: Path) -> str:
    """Write down a profile in which `migrate` still takes `detach`; gives what names it in a domain."""
    record = json.loads(lzma.decompress(_PROFILE.read_bytes()))
    schema = {each["name"]: each for each in record["schema"]}
    members = schema[schema["migrate"]["arg-type"]]["members"]
    members.append({"name": "detach", "default": None, "type": "bool"})
    file = folder / "profile.json.xz"
    file.write_bytes(lzma.compress(json.dumps(record).encode(), preset=0))
    return f"<qemu:env name='VFIO_SWITCHOVER_PROFILE' value='{file}'/>"


def migrate(source: Host, destination: Host, *options: str, fails: str | None = None) -> str:
    """Migrate the domain."""
    return do(source, "migrate", "--live", *options, "vm0", destination.uri, "tcp://127.0.0.1", fails=fails)


def ask(host: Host, command: str, **arguments: object) -> str:
    """Ask the emulator's monitor, by libvirt."""
    request = {"execute": command, **({"arguments": arguments} if arguments else {})}
    reply = do(host, "qemu-monitor-command", "vm0", json.dumps(request))
    if "error" in json.loads(reply):  # which virsh takes for a success
        raise NotAsExpectedError(f"expected success, got {reply}")
    return reply


def run_and_pause(source: Host, file: str) -> None:
    """Create the domain, and have it run, pause and run again."""
    do(source, "create", file)
    expect(source, _RUNNING)
    do(source, "suspend", "vm0")
    expect(source, _PAUSED)
    do(source, "resume", "vm0")
    expect(source, _RUNNING)
    if '"status":"running"' not in ask(source, "query-status"):
        raise NotAsExpectedError("the emulator does not say that it runs")


def take_what_this_libvirt_says(source: Host, destination: Host, emulator: str, folder: Path) -> None:
    """Create the domain so that it can be migrated: libvirt before QEMU 11.1 says what that no longer takes."""
    words = ("migrate", "--live", "vm0", destination.uri, "tcp://127.0.0.1")
    if _REFUSED in source.virsh(*words).stdout:
        say(f"this libvirt is older than QEMU 11.1 ({_REFUSED}): on with a profile in which migrate takes that")
        expect(source, _RUNNING)
        do(source, "destroy", "vm0")
        do(source, "create", domain(emulator, folder, environment=profile_with_detach(folder)))
        do(source, *words)


def migrate_and_fail(source: Host, destination: Host) -> None:
    """Have a device fail in the switchover: the domain runs on where it was, and can be migrated again."""
    ask(source, "qom-set", path="vf0", property="x-fail", value="PRE_COPY_P2P -> STOP_COPY")
    migrate(source, destination, fails="PRE_COPY_P2P to STOP_COPY: Input/output error")
    expect(source, _RUNNING)
    expect(destination, _GONE)
    migrate(source, destination, "--p2p")
    expect(source, _GONE)
    expect(destination, _RUNNING)


def migrate_and_abort(source: Host, destination: Host) -> None:
    """Abort a migration that would take long: the domain runs on where it was."""
    do(source, "migrate-setspeed", "vm0", "1")
    migration = source.begin("migrate", "--live", "vm0", destination.uri, "tcp://127.0.0.1")
    last = time.monotonic() + 10
    while "Outgoing migration" not in (info := source.virsh("domjobinfo", "vm0").stdout) or "processed" not in info:
        if time.monotonic() > last or migration.poll() is not None:
            raise NotAsExpectedError(f"no migration is under way:\n{info}")
        time.sleep(0.1)
    do(source, "domjobabort", "vm0")
    said = migration.communicate(timeout=20)[0]
    if "canceled by client" not in said:
        raise NotAsExpectedError(f"the migration was not aborted:\n{said}")
    expect(source, _RUNNING)
    expect(destination, _GONE)


def save_and_restore(host: Host, folder: Path) -> None:
    """Save the domain to a file and restore it from there."""
    file = str(folder / "saved")
    do(host, "migrate-setspeed", "vm0", "1000")
    do(host, "save", "vm0", file)
    expect(host, _GONE)
    do(host, "restore", file)
    expect(host, _RUNNING)


def drive(source: Host, destination: Host, emulator: str, folder: Path) -> None:
    """Do all of it."""
    source.start()
    destination.start()
    run_and_pause(source, domain(emulator, folder))
    take_what_this_libvirt_says(source, destination, emulator, folder)
    expect(source, _GONE)
    expect(destination, _RUNNING)
    migrate_and_fail(destination, source)
    migrate_and_abort(source, destination)
    save_and_restore(source, folder)
    do(source, "destroy", "vm0")
    expect(source, _GONE)


def main() -> int:
    """Give the exit status; of a failure, what the daemons said is printed."""
    emulator, folder = sys.argv[1], Path(sys.argv[2])
    hosts = Host("source", folder / "source"), Host("destination", folder / "destination")
    try:
        drive(*hosts, emulator, folder)
    except Exception as error:  # noqa: BLE001 - whatever it is, the daemons know more
        say("\n".join(f"== {host.name}\n{host.said()}" for host in hosts))
        say(f"FAILED: {type(error).__name__}: {error}")
        return 1
    finally:
        for host in hosts:
            host.stop()
    say("libvirt took it for a QEMU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
