"""The table: what is tried at each level by each user, what it comes to, and its page.

*contained*: it does not work. *detected*: it works and the record shows it. *open*: it works and
nothing shows it. The tests hold the table to what happens, in both directions, and the page
docs/reference/isolation.md to the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

Word = Literal["contained", "detected", "open"]
Level = Literal["T0", "T1"]
User = Literal["root", "other"]
WORDS: Mapping[str, Word] = {"C": "contained", "D": "detected", "O": "open"}
LEVELS: tuple[Level, ...] = ("T0", "T1")
USERS: tuple[User, ...] = ("root", "other")
#: Wall seconds for children that resist, and how long they could go on by themselves.
SHORT_S, LONG_S = 0.4, 4
RESISTING = {"timeout_s": SHORT_S, "limits": {"grace_s": 0.2}, "seconds": LONG_S}


class Attack(NamedTuple):
    """One attempt, and what it comes to."""

    name: str
    #: What is attempted, as the page says it.
    text: str
    #: At T0 and at T1, for root and for another user; `-` where there is nothing to gain.
    root: str
    other: str = ""
    note: str = ""
    #: Further keys of its task_config.
    config: Mapping[str, Any] = {}
    #: It needs a cycle of its own, because the others could not go on.
    alone: bool = False
    #: The name of the program's function, where it is not this name.
    source: str = ""

    def expected(self, level: Level, user: User) -> Word | None:
        """Return what it comes to; None where there is nothing to gain."""
        marks = self.root if user == "root" else self.other or self.root
        return WORDS.get(marks[LEVELS.index(level)])

    @property
    def function(self) -> str:
        """Return the name of the function that attempts it."""
        return self.source or self.name


class Topic(NamedTuple):
    """Attempts of one kind, whose functions stand in one program."""

    title: str
    program: str
    attacks: tuple[Attack, ...]


def _offline(name: str, text: str, source: str = "") -> Attack:
    note = "refused before it starts at T0"
    config = {"network": "none"}
    return Attack(f"offline_{name}", text, "CC", note=note, config=config, source=source or name)


STAYING = Topic(
    "Staying",
    "staying",
    (
        Attack("double_fork", "leave a process behind by forking twice", "CC"),
        Attack("own_session", "… in a session of its own", "CC"),
        Attack("daemon", "… under another name, with neither environment nor descriptors", "CC"),
        Attack("hold_stdout", "… that holds standard output open", "CC"),
        Attack("hold_stderr", "… that holds standard error open", "CC"),
        Attack("fork_at_exit", "… forked by an exit handler", "CC"),
        Attack("respawn", "… that is replaced when it is killed", "CC", config={"seconds": 4}),
        Attack("relay_left", "… that forks and ends all the time", "CC", config={"seconds": 4}),
        Attack("relay", "run away by forking and ending", "CC", config=RESISTING),
        Attack("relay_fast", "… faster than a list of processes is read", "CC", config=RESISTING),
        Attack("ignore_term", "ignore SIGTERM", "CC", config=RESISTING),
        Attack(
            "pester",
            "fork without end past its time, with `processes`",
            "CC",
            config={**RESISTING, "limits": {"grace_s": 0.2, "processes": 30}},
        ),
        Attack("stop_itself", "stop itself", "CC", config=RESISTING),
        Attack("close_stdio", "close its streams and stay", "CC", config=RESISTING),
        Attack("drip", "write slowly, for ever", "CC", config=RESISTING),
        Attack("flood", "write endless output", "CC", note="bounded, hashed and counted"),
        Attack(
            "stop_supervisor",
            "stop its supervisor and outstay its time",
            "OC",
            config={**RESISTING, "seconds": 3},
            alone=True,
        ),
        Attack(
            "outlive_conductor",
            "outlive a killed conductor",
            "CC",
            alone=True,
            source="outlive",
        ),
        Attack(
            "outlive_launcher",
            "outlive a killed launcher",
            "CC",
            config={"timeout_s": 3},
            alone=True,
            source="outlive",
        ),
        Attack(
            "outlive_supervisor", "outlive a killed supervisor", "CC", alone=True, source="outlive"
        ),
    ),
)

WRITING = Topic(
    "Writing",
    "writing",
    (
        Attack("write_new", "make a file outside its scratch folder", "OC"),
        Attack("write_append", "append to one", "OC"),
        Attack("write_truncate", "truncate one", "OC"),
        Attack("write_rename", "rename a file over one", "OC"),
        Attack("write_exchange", "exchange it with a file of its own", "OC"),
        Attack("write_unlink", "remove one", "OC"),
        Attack("write_folder", "make a folder", "OC"),
        Attack("write_symlink", "make a symbolic link", "OC"),
        Attack("write_hard_link", "write through a hard link in its scratch folder", "OC"),
        Attack("write_by_link", "… through a symbolic link", "OC"),
        Attack("write_by_cwd", "… through `/proc/self/cwd`", "OC"),
        Attack("write_by_descriptor", "… through `/proc/self/fd`", "OC"),
        Attack("write_by_root", "… through `/proc/self/root`", "OC"),
        Attack("write_by_dots", "… through a relative path", "OC"),
        Attack("write_shared_map", "… through mapped memory", "OC"),
        Attack("change_mode", "change the mode of a file of the user", "OO"),
        Attack("change_times", "change its times", "OO"),
        Attack("change_attribute", "change its extended attributes", "OO"),
        Attack("change_owner", "change its owner", "OC", "CC"),
        Attack("make_device", "make a device", "OC", "CC"),
        Attack("write_module", "change a module that a later function imports", "OC"),
        Attack("write_sibling", "change the script of a later function", "DC", note="`changed`"),
        Attack(
            "swap_script",
            "change its script between the check and the start",
            "OO",
            note="by a process outside that may write that folder, within about two milliseconds",
            alone=True,
            source="nothing",
        ),
        Attack("leave_shared_file", "leave a file in `/dev/shm`", "OC"),
        Attack("leave_shared_memory", "leave SysV shared memory", "OC"),
        Attack("leave_queue", "leave a POSIX message queue", "OC"),
        Attack("leave_key", "leave a key in the user's keyring", "OC"),
        Attack("choose_victim_of_memory", "have another process killed when memory is short", "OC"),
        Attack("write_terminal", "write to the user's terminal", "OC"),
        Attack("type_into_terminal", "type into the user's terminal", "OC", "CC"),
        Attack("lock_file", "lock a file that others use", "OO"),
        Attack("lock_folders", "leave folders without permissions in its scratch folder", "CC"),
        Attack("deep_folders", "… thousands of folders inside each other", "CC"),
        Attack("immutable_file", "… a file that cannot be removed", "OC", "CC"),
        Attack("result_link", "leave a link to a secret as its result", "CC"),
        Attack("result_pipe", "leave a pipe as its result", "CC"),
        Attack("result_folder", "leave a folder as its result", "CC"),
        Attack("result_sparse", "leave a result of 1 GiB", "CC"),
        Attack("print_secret", "print a declared secret, plain or in base64", "CC"),
        Attack("print_reversed", "… in a form that no masker knows", "OO"),
        Attack("expose_keys", "make the ledger's key readable for everybody", "DD", alone=True),
        Attack("forge_entry", "alter an entry in the store", "DC", alone=True),
        Attack("remove_store", "remove the store", "DC", alone=True),
        Attack("forge_memory", "alter what the signer remembers", "DC", alone=True),
        Attack("forge_key", "put another key in the place of the ledger's", "DC", alone=True),
    ),
)

READING = Topic(
    "Reading, and other processes",
    "reading",
    (
        Attack("read_key", "read the ledger's key", "OC"),
        Attack("read_key_by_link", "… through a hard link in its scratch folder", "OC"),
        Attack("read_key_by_root", "… through `/proc/self/root`", "OC"),
        Attack("read_key_by_handle", "… by its inode (open_by_handle_at)", "OC", "CC"),
        Attack("read_disk", "read the disk below all files", "OC", "CC"),
        Attack("read_memory", "read what the signer remembers", "OC"),
        Attack("read_store", "read the store", "OC"),
        Attack("read_journal", "… what stands beside it", "OC"),
        Attack("read_scratch", "read the scratch folder of another run", "OC"),
        Attack("read_file", "read any other file of the user", "OO"),
        Attack("read_own_environment", "read a variable that was not granted", "CC"),
        Attack("inherited_descriptors", "use a descriptor that it inherited", "CC"),
        Attack("arguments_of_bystander", "read the arguments of other processes", "OO"),
        Attack("environment_of_conductor", "read the environment of the conductor", "OC"),
        Attack("environment_of_bystander", "… of another process of the user", "OC"),
        Attack("memory_of_conductor", "read the memory of the conductor", "OC"),
        Attack("memory_of_bystander", "… of another process", "OC"),
        Attack("memory_by_call", "… by process_vm_readv", "OC"),
        Attack("change_memory_by_call", "change the memory of another process", "OC"),
        Attack("descriptors_of_conductor", "open what the conductor has open", "OC"),
        Attack("descriptors_of_bystander", "… what another process has open", "OC"),
        Attack("take_descriptor", "copy a descriptor of another process", "OC"),
        Attack("passed_descriptor", "be passed one through an abstract socket", "OC"),
        Attack("attach_shared_memory", "attach shared memory of another process", "OC"),
        Attack("remove_shared_memory", "remove it", "OC"),
        Attack("read_queue", "take a message from a queue of other processes", "OC"),
        Attack("trace_supervisor", "trace its supervisor", "OC"),
        Attack("trace_launcher", "trace the launcher", "OC"),
        Attack("trace_conductor", "trace the conductor", "OC"),
        Attack("trace_bystander", "trace another process", "OC"),
        Attack("trace_and_change", "… and change its memory", "OC"),
        Attack("kill_bystander", "kill another process of the user", "OC"),
        Attack("kill_by_handle", "… through a pidfd", "OC"),
        Attack(
            "kill_supervisor", "kill its supervisor", "DC", note="`supervisor-died`", alone=True
        ),
        Attack("kill_launcher", "kill the launcher", "DC", note="`launcher-died`", alone=True),
        Attack("kill_conductor", "kill the conductor", "DC", note="`conductor-died`", alone=True),
        Attack("kill_everything", "kill every process of the user", "OC", alone=True),
        Attack("slow_conductor", "lower the priority of the conductor", "OC"),
        Attack("slow_everybody", "… of every process of the user at once", "OC", alone=True),
        Attack("slow_disk_of_bystander", "lower the disk priority of another process", "OC"),
        Attack("slow_disk_of_everybody", "… of every process of the user", "OC", alone=True),
        Attack("pin_conductor", "bind the conductor to one processor", "OC"),
        Attack("schedule_bystander", "change how another process is scheduled", "OC"),
        Attack("limit_conductor", "lower the limits of the conductor", "OC"),
    ),
)

NETWORK = Topic(
    "Network",
    "reaching",
    (
        Attack("tcp_connect", "connect by TCP", "OO"),
        Attack("tcp_connect_new", "connect by TCP, IPv6", "OO"),
        Attack("tcp_listen", "listen by TCP", "OO"),
        Attack("udp_send", "send by UDP", "OO"),
        Attack("resolve_name", "ask a name server", "OO"),
        Attack("path_connect", "connect to a Unix socket with a path", "OO"),
        Attack("abstract_connect", "connect to an abstract Unix socket", "OC"),
        Attack("aimed_pair", "aim a datagram pair at a Unix socket with a path", "OO"),
        Attack("netlink", "talk to the kernel by netlink", "OO"),
        Attack("raw_socket", "make raw packets", "OC", "CC"),
        Attack("io_uring", "use io_uring", "OC"),
        Attack("foreign_calls", "make a socket by 32-bit system calls", "OC"),
        _offline("tcp_connect", "with `network: none`: connect by TCP"),
        _offline("tcp_connect_new", "… connect by TCP, IPv6"),
        _offline("tcp_listen", "… listen by TCP"),
        _offline("udp_send", "… send by UDP"),
        _offline("resolve_name", "… ask a name server"),
        _offline("path_connect", "… connect to a Unix socket with a path"),
        _offline("abstract_connect", "… connect to an abstract Unix socket"),
        _offline("aimed_pair", "… aim a datagram pair at one with a path"),
        _offline("netlink", "… talk to the kernel by netlink"),
        _offline("raw_socket", "… make raw packets"),
        _offline("io_uring", "… use io_uring"),
        _offline("foreign_calls", "… make a socket by 32-bit system calls"),
        _offline("any_socket", "… make a socket of any of 45 families"),
    ),
)

RIGHTS = Topic(
    "Rights and the kernel",
    "reaching",
    (
        Attack("keep_rights", "keep the capabilities of root", "OC", "CC"),
        Attack("set_user_program", "gain rights by a set-user-id program", "--", "OC"),
        Attack("mount_over", "mount over a folder", "OC", "CC"),
        Attack("mount_in_namespace", "mount as root of a user namespace of its own", "OC"),
        Attack("clone_namespace", "get a user namespace by clone", "OC"),
        Attack("change_root", "change the root folder", "OC", "CC"),
        Attack("set_clock", "set the clock", "OC", "CC"),
        Attack("load_bpf", "load BPF", "OC", "CC", "for others open where the kernel lets them"),
        Attack("measure_processor", "measure the processor (perf_event_open)", "OC"),
        Attack("catch_faults", "hold the kernel at a fault (userfaultfd)", "OC"),
        Attack("administer", "modules, swap, kexec, reboot, quota, accounting", "OC", "CC"),
    ),
)

LIMITS = Topic(
    "Using too much",
    "reaching",
    (
        Attack(
            "fork_bomb",
            "fork without end, with `processes`",
            "CC",
            config={"limits": {"processes": 60}, "wanted": 120},
        ),
        Attack(
            "thread_bomb",
            "start threads without end, with `processes`",
            "CC",
            config={"limits": {"processes": 60}, "wanted": 120},
        ),
        Attack(
            "thread_bomb_by_default",
            "… without a limit given",
            "OO",
            "OC",
            note="at T1 a user other than root cannot grow by more than 1,024",
            config={"wanted": 3000, "most": 2000},
            source="thread_bomb",
        ),
        Attack(
            "take_memory",
            "fill memory, with `memory_mib`",
            "CC",
            config={"limits": {"memory_mib": 200}, "mebibytes": 300},
        ),
        Attack(
            "take_memory_by_many",
            "… by many processes",
            "OO",
            note="the limit is one for each process",
            config={"limits": {"memory_mib": 120}, "mebibytes": 60, "processes": 3},
        ),
        Attack(
            "raise_limits",
            "raise a limit above what was set",
            "OC",
            "CC",
            config={"limits": {"memory_mib": 200}, "mebibytes": 300},
        ),
        Attack(
            "large_file",
            "write a large file, with `file_mib`",
            "CC",
            config={"limits": {"file_mib": 2}, "mebibytes": 4},
        ),
        Attack(
            "many_descriptors",
            "open many files, with `open_files`",
            "CC",
            config={"limits": {"open_files": 64}, "wanted": 200},
        ),
        Attack(
            "long_computation",
            "compute for long, with `cpu_s`",
            "CC",
            config={"limits": {"cpu_s": 1}, "seconds": 2.6},
        ),
        Attack("dump_core", "leave an image of its memory", "CC"),
    ),
)

FILLING = Topic(
    "",
    "writing",
    (
        Attack(
            "fill_with_files",
            "fill the disk with many files",
            "OO",
            config={"limits": {"file_mib": 1}, "files": 400},
        ),
    ),
)

TOPICS = (STAYING, WRITING, READING, NETWORK, RIGHTS, LIMITS, FILLING)


def attacks() -> Iterator[tuple[Topic, Attack]]:
    """Yield every attempt."""
    for topic in TOPICS:
        for attack in topic.attacks:
            yield topic, attack


def is_shown(attack: Attack) -> bool:
    """Say whether some level lets it work, so that the test of that level shows how it works."""
    return bool(set(attack.root + attack.other) & {"O", "D"}) or attack.name.startswith("offline_")


#: What the table cannot show.
BEYOND = (
    "*Staying* is *contained* when nothing of it is left; the outcome says how many processes were",
    "killed. Not tried: a process that cannot be killed, blocked in the kernel, is *detected* as",
    "`survivors`. Who rewrites store, keys and memory together goes as far as",
    "[the ledger](ledger.md#rollback) says: *open* at T0.",
)


def page() -> str:
    """Return the table as it stands in docs/reference/isolation.md."""
    lines = ["| attempt | T0 | T1 | notes |", "|---|---|---|---|"]
    for topic in TOPICS:
        if topic.title:
            lines.append(f"| **{topic.title}** | | | |")
        for attack in topic.attacks:
            cells = [attack.text, *(_cell(attack, level) for level in LEVELS), attack.note]
            lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return "\n".join([*lines, "", *BEYOND])


def _cell(attack: Attack, level: Level) -> str:
    root, other = (attack.expected(level, user) for user in USERS)
    if root == other:
        return str(root)
    if root is None:
        return str(other)
    return f"{root} for root, else {other}"


if __name__ == "__main__":
    print(page())
