"""What a cycles spec file says, and what a task's configuration says."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from runwright.kernel.errors import InvalidSpec
from runwright.kernel.run import ONCE, Limits, Retry, Warm
from runwright.kernel.workload import SpecBase

#: The seed's default wall time for one function, seconds.
FUNCTION_TIMEOUT_S: Final = 300
#: The seed's default time between cycles, seconds.
CYCLE_INTERVAL_S: Final = 3600
#: The type of the row by which an orchestrator is known.
ORCHESTRATOR: Final = "SYSTEM_ORCHESTRATOR"
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
_VARIABLE: Final = r"[A-Za-z_][A-Za-z0-9_]*"
_AMOUNT: Final = r"[0-9]{1,15}(\.[0-9]{1,12})?"
#: The most modules that a function may have imported ahead.
IMPORTS_MAX: Final = 100
_MODULE: Final = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
_HOST_PORT: Final = r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})"


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A row of the task registry, as a spec file declares it."""

    #: Unique in the registry.
    task_name: str
    agent_id: str
    #: What it is and does; `function_path` or `command`, and whatever the function reads.
    task_config: Mapping[str, Any]
    task_type: str = "VISION_FUNCTION"
    task_description: str = ""
    enabled: bool = True


class Scope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose spending a budget bounds: exactly one of the two."""

    function: str = ""
    agent: str = ""


class BudgetLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The most that may be used in a window; None: no limit of that kind."""

    #: Starts, repeats included.
    calls: int | None = None
    #: What functions report as `usage.steps`.
    steps: int | None = None
    #: Recorded wall seconds.
    seconds: float | int | None = None
    #: What functions report as `usage.cost`, in whatever unit: a decimal as text.
    cost: str | int | None = None


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be spent in a window; a call beyond it is refused before it starts."""

    #: Unique in its spec; `runwright decide budget/NAME` names it.
    name: str
    scope: Literal["all"] | Scope = "all"
    #: The window is that of the planned instant.
    window: Literal["cycle", "hour", "day"] = "day"
    #: The IANA time zone of days and hours.
    timezone: str = "UTC"
    limits: BudgetLimits


class CycleSpec(SpecBase, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cycle: which rows of the registry it executes, when and on whose behalf."""

    #: The component name under which results stand.
    orchestrator: str = "vision_ios_orchestrator"
    orchestrator_version: str = "1.0.0"
    #: What a cycle calls itself on a terminal; "": the component name in capitals.
    title: str = ""
    #: The agent that orchestrates.
    agent: str = "LARS"
    #: The rules that the registration of the orchestrator names.
    compliance: tuple[str, ...] = ("ADR-007", "ADR-010", "ADR-002")
    #: The rows of the registry that it executes.
    task_type: str = "VISION_FUNCTION"
    #: The folder below which functions must lie, relative to the spec file.
    root: str = "."
    #: Wall seconds for a function whose task_config has no timeout_s.
    function_timeout_s: float | int = FUNCTION_TIMEOUT_S
    #: For a function that exits with 75.
    retry: Retry = ONCE
    #: Its row in orchestrator_schedule; "": the name of the spec.
    schedule_name: str = ""
    #: What its functions may spend.
    budgets: tuple[Budget, ...] = ()
    #: Rows that applying the spec writes to the registry.
    tasks: tuple[Task, ...] = ()

    @property
    def row_name(self) -> str:
        """The name of its row in orchestrator_schedule."""
        return self.schedule_name or self.name


class TaskConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a task_config that the orchestrator reads; the function reads the others."""

    #: A Python file below the root; exactly one of this and `command`.
    function_path: str = ""
    #: The same under another name.
    script: str = ""
    #: A function that never ends has no place in a cycle: true is refused.
    continuous: bool = False
    #: Refused: it is said once for a cycle, by its spec or its schedule.
    retry: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    command: tuple[str, ...] = ()
    #: Arguments after the function's path.
    args: tuple[str, ...] = ()
    #: Lower runs earlier; None last.
    priority: int | None = None
    timeout_s: float | int | None = None
    env: tuple[str, ...] = ()
    secret: tuple[str, ...] = ()
    network: Literal["any", "none"] | tuple[str, ...] = "any"
    #: Folders and files that it may write, relative to the root.
    write: tuple[str, ...] = ()
    level: Literal["", "T0", "T1", "T2"] = ""
    limits: Limits = Limits()
    #: It may be forked from a process that has imported what it needs.
    warm: bool | Warm = False


def agents_of(spec: CycleSpec) -> tuple[str, ...]:
    """Return the agents that a spec names: who orchestrates, and whose the functions are."""
    return (spec.agent, *(task.agent_id for task in spec.tasks))


def check_spec(spec: CycleSpec) -> None:
    """Refuse a spec that cannot be meant. Raises: invalid-spec, naming the key."""
    if not re.fullmatch(_NAME, spec.name):
        raise InvalidSpec(f"name: {spec.name!r} is not of letters, digits, '_', '.', '-'")
    if spec.function_timeout_s <= 0:
        raise InvalidSpec(f"function_timeout_s: {spec.function_timeout_s} is not above 0")
    for key in ("orchestrator", "schedule_name"):
        text = getattr(spec, key)
        if (text or key == "orchestrator") and not re.fullmatch(_NAME, text):
            raise InvalidSpec(f"{key}: {text!r} is not of letters, digits, '_', '.', '-'")
    if ORCHESTRATOR in (spec.task_type, *(task.task_type for task in spec.tasks)):
        raise InvalidSpec(f"task_type: {ORCHESTRATOR} is that of the orchestrator itself")
    _check_budgets(spec)
    names: set[str] = {spec.orchestrator}
    for index, task in enumerate(spec.tasks):
        key = f"tasks[{index}]"
        if not re.fullmatch(_NAME, task.task_name):
            raise InvalidSpec(f"{key}.task_name: {task.task_name!r} is not a name")
        if task.task_name == spec.orchestrator:
            raise InvalidSpec(f"{key}.task_name: {task.task_name} is that of the orchestrator")
        if task.task_name in names:
            raise InvalidSpec(f"{key}.task_name: {task.task_name} is declared twice")
        names.add(task.task_name)
        _, problem = read_config(msgspec.json.encode(task.task_config).decode())
        if problem:
            raise InvalidSpec(f"{key}.task_config: {problem}")


def _check_budgets(spec: CycleSpec) -> None:
    """Refuse a budget that bounds nothing or cannot be kept. Raises: invalid-spec."""
    names: set[str] = set()
    for index, budget in enumerate(spec.budgets):
        key, limits = f"budgets[{index}]", budget.limits
        if not re.fullmatch(_NAME, budget.name):
            raise InvalidSpec(f"{key}.name: {budget.name!r} is not a name")
        if budget.name in names:
            raise InvalidSpec(f"{key}.name: {budget.name} is declared twice")
        names.add(budget.name)
        scope = budget.scope
        if not isinstance(scope, str) and bool(scope.function) == bool(scope.agent):
            raise InvalidSpec(f"{key}.scope: give all, or one of function and agent")
        given = {name: getattr(limits, name) for name in limits.__struct_fields__}
        if all(value is None for value in given.values()):
            raise InvalidSpec(f"{key}.limits: give at least one of {', '.join(given)}")
        for name, value in given.items():
            if value is not None and not re.fullmatch(_AMOUNT, str(value)):
                raise InvalidSpec(f"{key}.limits.{name}: {value!r} is not a plain number from 0 on")
        _check_timezone(f"{key}.timezone", budget.timezone)


def _check_timezone(key: str, name: str) -> None:
    if name == "UTC":
        return
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # lazy: only another zone needs it

    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidSpec(f"{key}: {name!r} is not an IANA time zone") from error


@lru_cache(maxsize=256)
def read_config(text: str) -> tuple[TaskConfig, str]:
    """Return what a task_config says, and why it cannot be executed, if so."""
    try:
        config = msgspec.json.decode(text, type=TaskConfig)
    except msgspec.ValidationError as error:
        return TaskConfig(), _where(str(error))
    except msgspec.DecodeError as error:
        return TaskConfig(), f"broken JSON: {error}"
    if config.script and config.function_path:
        return config, "script and function_path: give one of them"
    if config.script:
        config = msgspec.structs.replace(config, function_path=config.script)
    if config.continuous:
        return config, "continuous: a function that never ends has no place in a cycle"
    if config.retry is not msgspec.UNSET:
        return config, "retry: stands in the spec or in orchestrator_schedule, for a whole cycle"
    if not config.function_path and not config.command:
        return config, "Missing function_path in task_config"
    if config.function_path and config.command:
        return config, "function_path and command: give one of them"
    if config.warm and config.command:
        return config, "warm: goes with function_path, not with command"
    if isinstance(config.warm, Warm) and config.warm.imports is not None:
        names = config.warm.imports
        if not names or len(names) > IMPORTS_MAX:
            return config, f"warm.imports: {len(names)} names, not 1 to {IMPORTS_MAX}"
        for name in names:
            if not re.fullmatch(_MODULE, name):
                return config, f"warm.imports: {name!r} is not the name of a module"
    strings = (config.function_path, *config.command, *config.args, *config.write)
    if any("\0" in text for text in strings):
        return config, "a path or an argument holds a NUL byte"
    for name in (*config.env, *config.secret):
        if not re.fullmatch(_VARIABLE, name):
            return config, f"env: {name!r} is not the name of a variable"
    if set(config.secret) - set(config.env):
        ungranted = ", ".join(sorted(set(config.secret) - set(config.env)))
        return config, f"secret: {ungranted} is not granted by env"
    if config.timeout_s is not None and not 0 < config.timeout_s <= 7 * 86_400:
        return config, f"timeout_s: {config.timeout_s} is not within 0 to 604800"
    if isinstance(config.network, tuple):
        wrong = [item for item in config.network if not _is_host_port(item)]
        if wrong or not config.network:
            return config, f"network: {wrong or 'an empty list'} is not any, none or host:port"
    return config, ""


def network_of(value: object) -> Literal["any", "none"] | tuple[str, ...]:
    """Return what may be reached, from a canonical value."""
    if isinstance(value, list):
        return tuple(map(str, value))
    return "none" if value == "none" else "any"


def _is_host_port(text: str) -> bool:
    found = re.fullmatch(_HOST_PORT, text)
    return found is not None and 0 < int(found[1]) < 1 << 16


def _where(message: str) -> str:
    """Return msgspec's message with the key first: "timeout_s: Expected `int`, got `str`"."""
    text, _, path = message.partition(" - at `$")
    return f"{path.rstrip('`').lstrip('.')}: {text}" if path else text
