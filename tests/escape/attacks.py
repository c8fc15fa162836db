"""The table: what is tried at each level by each user, what it comes to, and its page.

*contained*: it does not work. *detected*: it works and the record shows it. *open*: it works and
nothing shows it. The tests hold the table to what happens, in both directions, and the page
docs/reference/isolation.md to the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

Word = Literal["contained", "detected", "open"]
Level = Literal["T0", "T1", "T2"]
User = Literal["root", "other"]
WORDS: Mapping[str, Word] = {"C": "contained", "D": "detected", "O": "open"}
LEVELS: tuple[Level, ...] = ("T0", "T1", "T2")
USERS: tuple[User, ...] = ("root", "other")
#: Wall seconds for children that resist, and how long they could go on by themselves.
SHORT_S, LONG_S = 0.4, 4
RESISTING = {"timeout_s": SHORT_S, "limits": {"grace_s": 0.2}, "seconds": LONG_S}


class Attack(NamedTuple):
    """One attempt, and what it comes to."""

    name: str
    #: What is attempted, as the page says it.
    text: str
    #: At T0, T1 and T2, for root and for another user; `-` where there is nothing to gain.
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
    return Attack(f"offline_{name}", text, "CCC", note=note, config=config, source=source or name)


def _granted(name: str, text: str, source: str = "") -> Attack:
    note = "refused before it starts at T0 and T1"
    return Attack(f"granted_{name}", text, "CCC", note=note, source=source or name)


STAYING = Topic(
    "Staying",
    "staying",
    (
        Attack("double_fork", "leave a process behind by forking twice", "CCC"),
        Attack("own_session", "… in a session of its own", "CCC"),
        Attack("daemon", "… under another name, with neither environment nor descriptors", "CCC"),
        Attack("hold_stdout", "… that holds standard output open", "CCC"),
        Attack("hold_stderr", "… that holds standard error open", "CCC"),
        Attack("fork_at_exit", "… forked by an exit handler", "CCC"),
        Attack("respawn", "… that is replaced when it is killed", "CCC", config={"seconds": 4}),
        Attack("relay_left", "… that forks and ends all the time", "CCC", config={"seconds": 4}),
        Attack("relay", "run away by forking and ending", "CCC", config=RESISTING),
        Attack("relay_fast", "… faster than a list of processes is read", "CCC", config=RESISTING),
        Attack("ignore_term", "ignore SIGTERM", "CCC", config=RESISTING),
        Attack(
            "pester",
            "fork without end past its time, with `processes`",
            "CCC",
            config={**RESISTING, "limits": {"grace_s": 0.2, "processes": 30}},
        ),
        Attack("stop_itself", "stop itself", "CCC", config=RESISTING),
        Attack("close_stdio", "close its streams and stay", "CCC", config=RESISTING),
        Attack("drip", "write slowly, for ever", "CCC", config=RESISTING),
        Attack("flood", "write endless output", "CCC", note="bounded, hashed and counted"),
        Attack(
            "stop_supervisor",
            "stop its supervisor and outstay its time",
            "OCC",
            config={**RESISTING, "seconds": 3},
            alone=True,
        ),
        Attack(
            "outlive_conductor",
            "outlive a killed conductor",
            "CCC",
            alone=True,
            source="outlive",
        ),
        Attack(
            "outlive_launcher",
            "outlive a killed launcher",
            "CCC",
            config={"timeout_s": 3},
            alone=True,
            source="outlive",
        ),
        Attack(
            "outlive_supervisor", "outlive a killed supervisor", "CCC", alone=True, source="outlive"
        ),
    ),
)

WRITING = Topic(
    "Writing",
    "writing",
    (
        Attack("write_new", "make a file outside its scratch folder", "OCC"),
        Attack("write_append", "append to one", "OCC"),
        Attack("write_truncate", "truncate one", "OCC"),
        Attack("write_rename", "rename a file over one", "OCC"),
        Attack("write_exchange", "exchange it with a file of its own", "OCC"),
        Attack("write_unlink", "remove one", "OCC"),
        Attack("write_folder", "make a folder", "OCC"),
        Attack("write_symlink", "make a symbolic link", "OCC"),
        Attack("write_hard_link", "write through a hard link in its scratch folder", "OCC"),
        Attack("write_by_link", "… through a symbolic link", "OCC"),
        Attack("write_by_cwd", "… through `/proc/self/cwd`", "OCC"),
        Attack("write_by_descriptor", "… through `/proc/self/fd`", "OCC"),
        Attack("write_by_root", "… through `/proc/self/root`", "OCC"),
        Attack("write_by_dots", "… through a relative path", "OCC"),
        Attack("write_shared_map", "… through mapped memory", "OCC"),
        Attack("change_mode", "change the mode of a file of the user", "OOC"),
        Attack("change_times", "change its times", "OOC"),
        Attack("change_attribute", "change its extended attributes", "OOC"),
        Attack("change_owner", "change its owner", "OCC", "CCC"),
        Attack("make_device", "make a device", "OCC", "CCC"),
        Attack("write_module", "change a module that a later function imports", "OCC"),
        Attack("write_sibling", "change the script of a later function", "DCC", note="`changed`"),
        Attack(
            "swap_script",
            "change its script between the check and the start",
            "OOO",
            note="by a process outside that may write that folder, within about two milliseconds",
            alone=True,
            source="nothing",
        ),
        Attack("leave_temporary_file", "leave a file in `/tmp` for a later function", "OCC"),
        Attack("leave_shared_file", "leave a file in `/dev/shm`", "OCC"),
        Attack("leave_shared_memory", "leave SysV shared memory", "OCC"),
        Attack("leave_queue", "leave a POSIX message queue", "OCC"),
        Attack("leave_key", "leave a key in the user's keyring", "OCC"),
        Attack(
            "choose_victim_of_memory", "have another process killed when memory is short", "OCC"
        ),
        Attack("write_terminal", "write to the user's terminal", "OCC"),
        Attack("type_into_terminal", "type into the user's terminal", "OCC", "CCC"),
        Attack("lock_file", "lock a file that others use", "OOO"),
        Attack("lock_folders", "leave folders without permissions in its scratch folder", "CCC"),
        Attack("deep_folders", "… thousands of folders inside each other", "CCC"),
        Attack("immutable_file", "… a file that cannot be removed", "OCC", "CCC"),
        Attack("result_link", "leave a link to a secret as its result", "CCC"),
        Attack("result_pipe", "leave a pipe as its result", "CCC"),
        Attack("result_folder", "leave a folder as its result", "CCC"),
        Attack("result_sparse", "leave a result of 1 GiB", "CCC"),
        Attack("print_secret", "print a declared secret, plain or in base64", "CCC"),
        Attack("print_reversed", "… in a form that no masker knows", "OOO"),
        Attack("expose_keys", "make the ledger's key readable for everybody", "DDC", alone=True),
        Attack("forge_entry", "alter an entry in the store", "DCC", alone=True),
        Attack("remove_store", "remove the store", "DCC", alone=True),
        Attack("forge_memory", "alter what the signer remembers", "DCC", alone=True),
        Attack("forge_key", "put another key in the place of the ledger's", "DCC", alone=True),
    ),
)

READING = Topic(
    "Reading, and other processes",
    "reading",
    (
        Attack("read_key", "read the ledger's key", "OCC"),
        Attack("read_key_by_link", "… through a hard link in its scratch folder", "OCC"),
        Attack("read_key_by_root", "… through `/proc/self/root`", "OCC"),
        Attack("read_key_by_handle", "… by its inode (open_by_handle_at)", "OCC", "CCC"),
        Attack("read_disk", "read the disk below all files", "OCC", "CCC"),
        Attack("read_memory", "read what the signer remembers", "OCC"),
        Attack("read_store", "read the store", "OCC"),
        Attack("read_journal", "… what stands beside it", "OCC"),
        Attack("see_private", "see the names of the store and the keys", "OOC"),
        Attack("read_scratch", "read the scratch folder of another run", "OCC"),
        Attack("read_file", "read any other file of the user", "OOO"),
        Attack("read_own_environment", "read a variable that was not granted", "CCC"),
        Attack("inherited_descriptors", "use a descriptor that it inherited", "CCC"),
        Attack("arguments_of_bystander", "read the arguments of other processes", "OOC"),
        Attack("list_processes", "… of all that a list of processes shows", "OOC"),
        Attack("environment_of_conductor", "read the environment of the conductor", "OCC"),
        Attack("environment_of_bystander", "… of another process of the user", "OCC"),
        Attack("memory_of_conductor", "read the memory of the conductor", "OCC"),
        Attack("memory_of_bystander", "… of another process", "OCC"),
        Attack("memory_by_call", "… by process_vm_readv", "OCC"),
        Attack("change_memory_by_call", "change the memory of another process", "OCC"),
        Attack("descriptors_of_conductor", "open what the conductor has open", "OCC"),
        Attack("descriptors_of_bystander", "… what another process has open", "OCC"),
        Attack("take_descriptor", "copy a descriptor of another process", "OCC"),
        Attack("passed_descriptor", "be passed one through an abstract socket", "OCC"),
        Attack("attach_shared_memory", "attach shared memory of another process", "OCC"),
        Attack("remove_shared_memory", "remove it", "OCC"),
        Attack("read_queue", "take a message from a queue of other processes", "OCC"),
        Attack("trace_supervisor", "trace its supervisor", "OCC"),
        Attack("trace_launcher", "trace the launcher", "OCC"),
        Attack("trace_conductor", "trace the conductor", "OCC"),
        Attack("trace_bystander", "trace another process", "OCC"),
        Attack("trace_and_change", "… and change its memory", "OCC"),
        Attack("kill_bystander", "kill another process of the user", "OCC"),
        Attack("kill_by_handle", "… through a pidfd", "OCC"),
        Attack(
            "kill_supervisor", "kill its supervisor", "DCC", note="`supervisor-died`", alone=True
        ),
        Attack("kill_launcher", "kill the launcher", "DCC", note="`launcher-died`", alone=True),
        Attack("kill_conductor", "kill the conductor", "DCC", note="`conductor-died`", alone=True),
        Attack("kill_everything", "kill every process of the user", "OCC", alone=True),
        Attack("slow_conductor", "lower the priority of the conductor", "OCC"),
        Attack("slow_everybody", "… of every process of the user at once", "OCC", alone=True),
        Attack("slow_disk_of_bystander", "lower the disk priority of another process", "OCC"),
        Attack("slow_disk_of_everybody", "… of every process of the user", "OCC", alone=True),
        Attack("pin_conductor", "bind the conductor to one processor", "OCC"),
        Attack("schedule_bystander", "change how another process is scheduled", "OCC"),
        Attack("limit_conductor", "lower the limits of the conductor", "OCC"),
    ),
)

NETWORK = Topic(
    "Network",
    "reaching",
    (
        Attack("tcp_connect", "connect by TCP", "OOO"),
        Attack("tcp_connect_new", "connect by TCP, IPv6", "OOO"),
        Attack("tcp_listen", "listen by TCP", "OOO"),
        Attack("udp_send", "send by UDP", "OOO"),
        Attack("resolve_name", "ask a name server", "OOO"),
        Attack("path_connect", "connect to a Unix socket with a path", "OOO"),
        Attack("abstract_connect", "connect to an abstract Unix socket", "OCC"),
        Attack("aimed_pair", "aim a datagram pair at a Unix socket with a path", "OOO"),
        Attack("netlink", "talk to the kernel by netlink", "OOO"),
        Attack("raw_socket", "make raw packets", "OCC", "CCC"),
        Attack("io_uring", "use io_uring", "OCC"),
        Attack("foreign_calls", "make a socket by 32-bit system calls", "OCC"),
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
        _granted("tcp_connect", "with `network: [host:port]`: connect to another port of the host"),
        _granted("tcp_connect_new", "… connect to another port, IPv6"),
        _granted("scan_ports", "… connect to any port of this machine, by any address"),
        _granted("ask_forwarder", "… have the forwarder connect to another port (CONNECT)"),
        _granted("tcp_listen", "… listen by TCP"),
        _granted("udp_send", "… send by UDP"),
        _granted("udp_granted", "… send by UDP to what was granted"),
        _granted("resolve_name", "… ask a name server"),
        _granted("path_connect", "… connect to a Unix socket with a path"),
        _granted("abstract_connect", "… connect to an abstract Unix socket"),
        _granted("aimed_pair", "… aim a datagram pair at one with a path"),
        _granted("netlink", "… talk to the kernel by netlink"),
        _granted("raw_socket", "… make raw packets"),
        _granted("io_uring", "… use io_uring"),
        _granted("foreign_calls", "… make a socket by 32-bit system calls"),
    ),
)

RIGHTS = Topic(
    "Rights and the kernel",
    "reaching",
    (
        Attack("keep_rights", "keep the capabilities of root", "OCC", "CCC"),
        Attack("set_user_program", "gain rights by a set-user-id program", "---", "OCC"),
        Attack("mount_over", "mount over a folder", "OCC", "CCC"),
        Attack("mount_in_namespace", "mount as root of a user namespace of its own", "OCC"),
        Attack("clone_namespace", "get a user namespace by clone", "OCC"),
        Attack("enter_namespaces", "enter the namespaces of its supervisor", "OCC", "CCC"),
        Attack("change_root", "change the root folder", "OCC", "CCC"),
        Attack("set_clock", "set the clock", "OCC", "CCC"),
        Attack("load_bpf", "load BPF", "OCC", "CCC", "for others open where the kernel lets them"),
        Attack("measure_processor", "measure the processor (perf_event_open)", "OCC"),
        Attack("catch_faults", "hold the kernel at a fault (userfaultfd)", "OCC"),
        Attack("administer", "modules, swap, kexec, reboot, quota, accounting", "OCC", "CCC"),
    ),
)

LIMITS = Topic(
    "Using too much",
    "reaching",
    (
        Attack(
            "fork_bomb",
            "fork without end, with `processes`",
            "CCC",
            config={"limits": {"processes": 60}, "wanted": 120},
        ),
        Attack(
            "thread_bomb",
            "start threads without end, with `processes`",
            "CCC",
            config={"limits": {"processes": 60}, "wanted": 120},
        ),
        Attack(
            "thread_bomb_by_default",
            "… without a limit given",
            "OOO",
            "OCC",
            note="at T1 a user other than root cannot grow by more than 1,024",
            config={"wanted": 3000, "most": 2000},
            source="thread_bomb",
        ),
        Attack(
            "take_memory",
            "fill memory, with `memory_mib`",
            "CCC",
            config={"limits": {"memory_mib": 200}, "mebibytes": 300},
        ),
        Attack(
            "take_memory_by_many",
            "… by many processes",
            "OOO",
            note="the limit is one for each process",
            config={"limits": {"memory_mib": 120}, "mebibytes": 60, "processes": 3},
        ),
        Attack(
            "raise_limits",
            "raise a limit above what was set",
            "OCC",
            "CCC",
            config={"limits": {"memory_mib": 200}, "mebibytes": 300},
        ),
        Attack(
            "large_file",
            "write a large file, with `file_mib`",
            "CCC",
            config={"limits": {"file_mib": 2}, "mebibytes": 4},
        ),
        Attack(
            "many_descriptors",
            "open many files, with `open_files`",
            "CCC",
            config={"limits": {"open_files": 64}, "wanted": 200},
        ),
        Attack(
            "long_computation",
            "compute for long, with `cpu_s`",
            "CCC",
            config={"limits": {"cpu_s": 1}, "seconds": 2.6},
        ),
        Attack("dump_core", "leave an image of its memory", "CCC"),
    ),
)

FILLING = Topic(
    "",
    "writing",
    (
        Attack(
            "fill_with_files",
            "fill the disk with many files",
            "OOO",
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
    works = bool(set(attack.root + attack.other) & {"O", "D"})
    return works or attack.name.startswith(("offline_", "granted_"))


#: What the table cannot show.
BEYOND = (
    "*Staying* is *contained* when nothing of it is left; the outcome says how many processes were",
    "killed. Not tried: a process that cannot be killed, blocked in the kernel, is *detected* as",
    "`survivors`. Who rewrites store, keys and memory together goes as far as",
    "[the ledger](ledger.md#rollback) says: *open* at T0.",
)


def page() -> str:
    """Return the table as it stands in docs/reference/isolation.md."""
    lines = ["| attempt | T0 | T1 | T2 | notes |", "|---|---|---|---|---|"]
    for topic in TOPICS:
        if topic.title:
            lines.append(f"| **{topic.title}** | | | | |")
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
