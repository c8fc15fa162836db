"""Who says that an attack worked: the victim, the kernel or the record, never the child alone."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from tests.escape.attacks import SHORT_S, Attack
from tests.escape.looking import has, sockets, status_of
from tests.escape.scene import Scene, tree

#: What a run may take beyond its time on a busy machine, ms.
SPARE_MS: Final = 1_800
KEYCTL_SEARCH: Final = 10

STDIO: Final = frozenset(range(3))

Seen = Mapping[str, Any]
Witness = Callable[[Scene, Attack, Seen], bool]

#: Whose secret an attack is after, where it is not its own.
SECRETS: Final = {
    "read_store": "store",
    "read_scratch": "scratch",
    "read_own_environment": "conductor",
    "inherited_descriptors": "descriptor",
    "arguments_of_bystander": "arguments",
    "list_processes": "arguments",
    "environment_of_conductor": "conductor",
    "environment_of_bystander": "bystander",
    "memory_of_conductor": "conductor",
    "memory_of_bystander": "bystander",
    "memory_by_call": "memory",
    "descriptors_of_conductor": "store",
    "descriptors_of_bystander": "descriptor",
    "take_descriptor": "descriptor",
    "attach_shared_memory": "segment",
    "read_queue": "queue",
    "set_user_program": "root_only",
}


def learned(scene: Scene, attack: Attack, seen: Seen) -> bool:
    """Say whether the child knows a secret, or the digest of bytes that it must not read."""
    text = str(seen["word"].get("learned", ""))
    return scene.token(SECRETS.get(attack.name, attack.name)) in text


def inherited(scene: Scene, attack: Attack, seen: Seen) -> bool:
    """Say whether the child has more than its three descriptors."""
    return learned(scene, attack, seen) or bool(seen["look"].get("descriptors", {}).keys() - STDIO)


def learned_digest(name: str) -> Witness:
    """Return who compares a digest that the child told with that of a file."""

    def witness(scene: Scene, _attack: Attack, seen: Seen) -> bool:
        path = Path(scene.victim(scene.project)[name])
        return hashlib.sha256(path.read_bytes()).hexdigest() == seen["word"].get("learned")

    return witness


def learned_journal(scene: Scene, _attack: Attack, seen: Seen) -> bool:
    """Say whether the child knows the hash that the entry of its own start follows."""
    entries = scene.project.entries("run.started")
    links = {entry["prev"] for entry in entries if entry["run"] == seen["run"]}
    return bool(links & set(str(seen["word"].get("learned", "")).split()))


def read_disk(scene: Scene, attack: Attack, seen: Seen) -> bool:
    digest = scene.disk["digest"]
    return bool(digest) and digest == seen["word"].get("learned")


def touched(scene: Scene, attack: Attack, seen: Seen) -> bool:
    """Say whether anything about the victim's folder is not as it was."""
    return tree(scene.folder / attack.name) != scene.before[attack.name]


def stayed(scene: Scene, attack: Attack, seen: Seen) -> bool:
    """Say whether something is left of it, or it lasted beyond its time."""
    late = seen.get("duration_ms", 0) > SHORT_S * 1000 + 200 + SPARE_MS
    resisting = "seconds" in attack.config and "timeout_s" in attack.config
    return bool(seen["survivors"]) or (late and (resisting or attack.name == "relay_left"))


def heard(scene: Scene, attack: Attack, seen: Seen) -> bool:
    """Say whether a listener got the attack's own word."""
    return attack.name in scene.listeners.heard


def traced(role: str) -> Witness:
    """Return who saw that a process was traced while its tracer stood still."""
    return lambda _scene, _attack, seen: bool(seen["look"].get("tracers", {}).get(role))


def descriptor(*words: str) -> Witness:
    """Return who saw a descriptor of the child."""
    return lambda _scene, _attack, seen: has(seen["look"], *words)


def in_tables(*names: str) -> Witness:
    """Return who found a socket of the child in the kernel's tables."""
    return lambda _scene, _attack, seen: bool(seen["look"].get("tables", {}).keys() & set(names))


def tasks(_scene: Scene, attack: Attack, seen: Seen) -> bool:
    """Say whether there were more processes and threads than allowed."""
    most = attack.config.get("limits", {}).get("processes") or attack.config["most"]
    return seen["look"].get("tasks", 0) > most


def memory(_scene: Scene, attack: Attack, seen: Seen) -> bool:
    """Say whether the tree was seen to hold more memory than one process may."""
    sizes = seen["look"].get("kib", {}).values()
    return sum(sizes) > attack.config["limits"]["memory_mib"] * 1024


def printed(value: Callable[[str], str]) -> Witness:
    """Return who looks for a form of the granted secret in all that was kept."""

    def witness(scene: Scene, _attack: Attack, seen: Seen) -> bool:
        return value(scene.token("granted")) in seen["printed"]

    return witness


def nice(name: str, least: int) -> Witness:
    """Return who asks the kernel for the priority of a process."""

    def witness(scene: Scene, _attack: Attack, seen: Seen) -> bool:
        pid = seen["conductor"] if name == "conductor" else scene.told[name]["pid"]
        return os.getpriority(os.PRIO_PROCESS, pid) >= least

    return witness


def disk_priority(scene: Scene, _attack: Attack, seen: Seen) -> bool:
    """Say whether the bystander's place in line for the disk was changed."""
    return int(ctypes.CDLL(None).syscall(252, 1, scene.told["bystander"]["pid"])) >> 13 in (2, 3)


def ended(name: str) -> Witness:
    """Return who asks whether a bystander was killed."""
    return lambda scene, _attack, _seen: scene.bystanders[name].poll() is not None


def bystander_says(field: str) -> Witness:
    """Return who asks the bystander what its memory holds."""

    def witness(scene: Scene, _attack: Attack, _seen: Seen) -> bool:
        process = scene.bystanders["bystander"]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("?\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())[field] == "CHANGED!"

    return witness


def limits_of_conductor(_scene: Scene, _attack: Attack, seen: Seen) -> bool:
    text = Path(f"/proc/{seen['conductor']}/limits").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("Max msgqueue")]
    return line.split()[3] == "4242"


def keyring(scene: Scene, _attack: Attack, _seen: Seen) -> bool:
    """Say whether the user's keyring holds the key, and take it out."""
    source = (
        "import ctypes, sys; c = ctypes.CDLL(None).syscall; "
        f"k = c(250, {KEYCTL_SEARCH}, -4, b'user', sys.argv[1].encode(), 0); "
        "print(k > 0); k > 0 and c(250, 9, k, -4)"
    )
    argv = [*scene.python, "-c", source, f"escape-{scene.word}"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "True\n"


def shared_memory(scene: Scene, _attack: Attack, _seen: Seen) -> bool:
    return int(ctypes.CDLL(None).shmget(int(scene.word[:7], 16), 0, 0)) >= 0


def segment_is_gone(scene: Scene, _attack: Attack, _seen: Seen) -> bool:
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    held = {int(line.split()[1]): int(line.split()[2], 8) for line in lines}
    number = scene.told["bystander"]["removable"]
    # A segment that is still attached is only marked.
    return number not in held or bool(held[number] & 0o1000)


def queue(scene: Scene, _attack: Attack, _seen: Seen) -> bool:
    library = ctypes.CDLL(None)
    opened = library.mq_open(f"/escape-{scene.word}".encode(), os.O_RDONLY)
    if opened >= 0:
        os.close(opened)
    return opened >= 0


def mounted(scene: Scene, attack: Attack, _seen: Seen) -> bool:
    """Say whether something is mounted on the victim, and take it away."""
    place = str(scene.folder / attack.name)
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found = any(line.split()[4] == place for line in mounts)
    if found:
        subprocess.run(["umount", place], check=True)
    return found


def other_namespace(_scene: Scene, _attack: Attack, seen: Seen) -> bool:
    mine = str(Path("/proc/self/ns/user").readlink())
    return seen["look"].get("ns/user", mine) not in ("", mine)


def removed(path: Callable[[Scene], Path]) -> Witness:
    """Return who looks whether a file is there."""
    return lambda scene, _attack, _seen: not path(scene).exists()


def scratch_is_left(_scene: Scene, _attack: Attack, seen: Seen) -> bool:
    return bool(seen["scratch_left"])


def result_harms(scene: Scene, attack: Attack, seen: Seen) -> bool:
    """Say whether what stood where the result belongs blocked its reader, or was read."""
    if scene.token(attack.name) in json.dumps(seen["value"]):
        return True
    if attack.name in ("result_folder", "result_sparse", "result_pipe"):
        return seen["reason"] != "result"
    return False


def took_notice(field: str) -> Witness:
    """Return who looks at a value that a later function of the cycle left."""
    return lambda _scene, _attack, seen: seen["later"].get(field) not in (None, "as planned")


def core(scene: Scene, attack: Attack, _seen: Seen) -> bool:
    return any((scene.folder / attack.name).glob("core*"))


def flooded(_scene: Scene, _attack: Attack, seen: Seen) -> bool:
    """Say whether the output was kept, or filled the conductor's memory."""
    return bool(seen["kept_kib"] > 8 * 1024 or seen["peak_kib"] > 512 * 1024)


def cpu(_scene: Scene, _attack: Attack, seen: Seen) -> bool:
    return (seen.get("cpu_ms") or seen["duration_ms"]) > 2_400


def clock(_scene: Scene, _attack: Attack, seen: Seen) -> bool:
    """Say whether the kernel told a timer that the clock was set; another test may set it too."""
    return bool(seen["clock_was_set"]) and bool(seen["word"].get("achieved"))


def outside_limit(field: str, name: str, unit: int) -> Witness:
    """Return who compares what was seen with what was allowed."""

    def witness(_scene: Scene, attack: Attack, seen: Seen) -> bool:
        return seen["look"].get(field, 0) > attack.config["limits"][name] * unit

    return witness


WITNESSES: Final[Mapping[str, Witness]] = {
    **dict.fromkeys(
        ["read_key", "read_key_by_link", "read_key_by_root", "read_key_by_handle"],
        learned_digest("key"),
    ),
    "see_private": lambda scene, _a, seen: (
        scene.project.store.name in str(seen["word"].get("learned", "")).split()
    ),
    "read_journal": learned_journal,
    "read_memory": lambda _s, _a, seen: seen["word"].get("learned") in seen["memories"],
    "read_disk": read_disk,
    "write_module": took_notice("importing"),
    "write_sibling": took_notice("sibling"),
    "leave_temporary_file": lambda scene, _a, _s: Path(f"/tmp/escape-{scene.word}").exists(),
    "leave_shared_file": lambda scene, _a, _s: Path(f"/dev/shm/escape-{scene.word}").exists(),
    "leave_shared_memory": shared_memory,
    "leave_queue": queue,
    "leave_key": keyring,
    "choose_victim_of_memory": lambda scene, _a, _s: (
        Path(f"/proc/{scene.told['bystander']['pid']}/oom_score_adj").read_text() == "777\n"
    ),
    "write_terminal": lambda scene, _a, _s: b"escaped\x07" in scene.terminal.shown(),
    "type_into_terminal": lambda scene, _a, _s: b"echo escaped" in scene.terminal.shown(),
    "lock_file": lambda _s, _a, seen: bool(seen["look"].get("locked")),
    **dict.fromkeys(["lock_folders", "deep_folders", "immutable_file"], scratch_is_left),
    **dict.fromkeys(["result_link", "result_pipe", "result_folder", "result_sparse"], result_harms),
    "print_secret": printed(str),
    "print_reversed": printed(lambda text: text[::-1]),
    "flood": flooded,
    "change_memory_by_call": bystander_says("written"),
    "trace_and_change": bystander_says("traced"),
    "passed_descriptor": touched,
    "remove_shared_memory": segment_is_gone,
    **{
        f"trace_{role}": traced(role)
        for role in ("supervisor", "launcher", "conductor", "bystander")
    },
    "kill_bystander": ended("target"),
    "kill_by_handle": ended("other"),
    "kill_by_descriptor": ended("third"),
    "inherited_descriptors": inherited,
    "slow_conductor": nice("conductor", 3),
    "slow_everybody": nice("bystander", 4),
    "slow_disk_of_bystander": disk_priority,
    "slow_disk_of_everybody": disk_priority,
    "pin_conductor": lambda _s, _a, seen: len(os.sched_getaffinity(seen["conductor"])) == 1,
    "schedule_bystander": lambda scene, _a, _s: (
        os.sched_getscheduler(scene.told["bystander"]["pid"]) == os.SCHED_BATCH
    ),
    "limit_conductor": limits_of_conductor,
    **dict.fromkeys(["tcp_listen"], lambda _s, _a, seen: bool(seen["look"].get("answered"))),
    "netlink": in_tables("netlink"),
    "raw_socket": in_tables("raw"),
    "io_uring": descriptor("io_uring"),
    "foreign_calls": descriptor("socket:["),
    "any_socket": descriptor("socket:["),
    **dict.fromkeys(
        "tcp_connect tcp_connect_new udp_send resolve_name path_connect aimed_pair "
        "scan_ports ask_forwarder udp_granted".split(),
        heard,
    ),
    "abstract_connect": heard,
    "keep_rights": lambda _s, _a, seen: seen["look"].get("capabilities", 0) != 0,
    "administer": lambda _s, _a, seen: seen["look"].get("capabilities", 0) != 0,
    # It stands still only once it has entered.
    "enter_namespaces": lambda _s, _a, seen: bool(seen["look"]),
    "mount_over": mounted,
    "mount_in_namespace": lambda _s, _a, seen: "/mounted " in seen["look"].get("mounts", ""),
    "clone_namespace": other_namespace,
    "change_root": lambda _s, _a, seen: seen["look"].get("root", "/") not in ("", "/"),
    "set_clock": clock,
    "load_bpf": descriptor("bpf-map"),
    "measure_processor": descriptor("[perf_event]"),
    "catch_faults": descriptor("[userfaultfd]"),
    **dict.fromkeys(["fork_bomb", "thread_bomb"], tasks),
    **dict.fromkeys(["take_memory", "take_memory_by_many", "raise_limits"], memory),
    "large_file": outside_limit("bytes", "file_mib", 1 << 20),
    "many_descriptors": lambda _s, attack, seen: (
        len(seen["look"].get("descriptors", {})) > attack.config["limits"]["open_files"]
    ),
    "long_computation": cpu,
    "dump_core": core,
    "fill_with_files": lambda _s, attack, seen: (
        seen["look"].get("files", 0) * 4096 > attack.config["limits"]["file_mib"] << 20
    ),
}

#: By the program of the attack, where no other witness is named.
USUAL: Final[Mapping[str, Witness]] = {"staying": stayed, "writing": touched, "reading": learned}


def witness_of(program: str, attack: Attack) -> Witness:
    """Return who says whether it worked."""
    if attack.function in WITNESSES or attack.name in WITNESSES:
        return WITNESSES.get(attack.name) or WITNESSES[attack.function]
    if attack.name == "set_user_program":
        return learned
    return USUAL[program]


def tracers(pids: Mapping[str, int]) -> dict[str, int]:
    """Return who traces each of some processes."""
    return {name: int(status_of(pid).get("TracerPid", "0")) for name, pid in pids.items()}


def tables(seen: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the sockets of a child that stand in each of the kernel's tables."""
    found = {name: sorted(sockets(seen, name)) for name in ("netlink", "raw", "packet")}
    return {name: numbers for name, numbers in found.items() if numbers}
