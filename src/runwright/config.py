"""Settings: flag > environment > project file > default, and where each value came from.

The project file is `runwright.toml`, found in the working folder or the nearest one above it. An
environment variable is the setting's name in capitals: `RUNWRIGHT_STORE_PATH` for `store.path`. An
unknown key is an error. Relative paths start at the project folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from runwright.kernel.errors import InvalidSetting

#: The name of the project file.
FILE: Final = "runwright.toml"
#: A password in a URL, of its user or as a parameter, after what stands before it.
_GIVEN_AWAY: Final = r"(//[^:@/?#]*:).*(?=@)|(password=)[^&\s]*"
#: A name that needs no quotes in SQL, and leaves space for what is added to it.
_SCHEMA: Final = r"[a-z_][a-z0-9_]{0,39}"
#: A table that somebody else named.
_RELATION: Final = r"[A-Za-z_][A-Za-z0-9_]{0,62}\.[A-Za-z_][A-Za-z0-9_]{0,62}"


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the project file."""


class StoreSettings(_Section, frozen=True, kw_only=True):
    """Where the record is kept."""

    #: The SQLite file.
    path: str = ".runwright/store.db"
    #: A PostgreSQL database instead of the file: postgresql://…, or "postgresql:" for what
    #: DATABASE_URL says, else PGHOST and its kin.
    url: str = ""
    #: The schema of the store in that database.
    schema: str = "runwright"


class SchemasSettings(_Section, frozen=True, kw_only=True):
    """Where the tables of workloads stand in a PostgreSQL database."""

    governance: str = "fhq_governance"
    vision: str = "vision_core"
    meta: str = "fhq_meta"


class RegistrySettings(_Section, frozen=True, kw_only=True):
    """Which functions there are."""

    #: A table of the site in that database to read instead of a task_registry of ours:
    #: "schema.table". What `init` is told stands.
    table: str = ""


class SignerSettings(_Section, frozen=True, kw_only=True):
    """Who seals it."""

    #: The folder of the keys.
    keys: str = ".runwright/keys"
    #: The folder of what the signer remembers, outside the store; "": below XDG_STATE_HOME.
    memory: str = ""
    #: The longest time that entries stay unsealed, seconds.
    every_s: float = 1.0


class FilesSettings(_Section, frozen=True, kw_only=True):
    """Where papers go."""

    #: The folder of the files sink.
    folder: str = "out"


class ConductorSettings(_Section, frozen=True, kw_only=True):
    """How the conductor behaves."""

    #: Seconds that running functions may go on after the first signal to stop.
    drain_s: float = 10.0
    #: With more papers than this waiting there are no new ticks.
    outbox_max: int = 10_000
    #: The folder of scratch folders of functions.
    scratch: str = ".runwright/scratch"
    #: When functions that wish it start warm: auto is from the second cycle of a process on, or
    #: from the first one of a process that keeps a schedule.
    warm: Literal["auto", "always", "never"] = "auto"


class MessagesSettings(_Section, frozen=True, kw_only=True):
    """How messages for operators look."""

    #: auto: text on a terminal, JSON lines otherwise.
    form: Literal["auto", "human", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class PeopleSettings(_Section, frozen=True, kw_only=True):
    """Who gives the commands."""

    #: The private key that signs decisions on this machine; "": named by each command.
    key: str = ""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set."""

    store: StoreSettings = StoreSettings()
    schemas: SchemasSettings = SchemasSettings()
    registry: RegistrySettings = RegistrySettings()
    signer: SignerSettings = SignerSettings()
    files: FilesSettings = FilesSettings()
    conductor: ConductorSettings = ConductorSettings()
    messages: MessagesSettings = MessagesSettings()
    people: PeopleSettings = PeopleSettings()


class Loaded(msgspec.Struct, frozen=True):
    """Settings, the folder that their paths start at, and where each value came from."""

    settings: Settings
    folder: Path
    #: "store.path" -> "default", "environment RUNWRIGHT_STORE_PATH", "file …/runwright.toml".
    origins: Mapping[str, str]

    def path(self, given: str) -> Path:
        """Return a path of the settings, absolute."""
        return (self.folder / Path(given).expanduser()).absolute()


def load(
    environment: Mapping[str, str],
    *,
    start: Path,
    flags: Mapping[str, str] | None = None,
) -> Loaded:
    """Merge the layers; `flags` maps "store.path" to text.

    Raises: invalid-setting, naming the file or variable, the key and the reason.
    """
    file = _find(start)
    values: dict[str, tuple[Any, str]] = {}
    if file is not None:
        values.update(_from_file(file))
    known = _names()
    for name in known:
        variable = f"RUNWRIGHT_{name.upper().replace('.', '_')}"
        if variable in environment:
            values[name] = (environment[variable], f"environment {variable}")
    for name, text in (flags or {}).items():
        values[name] = (text, "flag")
    # To look at their types takes as long as three reads of the file.
    types = dict(fields()) if values else {}
    plain: dict[str, dict[str, Any]] = {}
    for name, (value, origin) in values.items():
        if name not in known:
            message = f"{origin}: unknown key {name!r}"
            raise InvalidSetting(message, hint=f"Known: {', '.join(sorted(known))}.")
        section, _, key = name.partition(".")
        strict = origin.startswith("file")
        try:
            kind = types[name]
            plain.setdefault(section, {})[key] = msgspec.convert(value, kind, strict=strict)
        except msgspec.ValidationError as error:
            message = f"{origin}: {name}: {error}"
            raise InvalidSetting(message) from error
    settings = msgspec.convert(plain, Settings) if plain else Settings()
    _check(settings, values)
    origins = {name: values[name][1] if name in values else "default" for name in known}
    return Loaded(settings, file.parent if file else start, origins)


def fields() -> Iterator[tuple[str, Any]]:
    """Yield the name and the type of every setting."""
    for section in msgspec.structs.fields(Settings):
        for field in msgspec.structs.fields(section.type):
            yield f"{section.name}.{field.name}", field.type


def _names() -> list[str]:
    """Return the names of `fields`, whose types take ten times as long to find."""
    defaults = Settings()
    return [
        f"{section}.{key}"
        for section in Settings.__struct_fields__
        for key in getattr(defaults, section).__struct_fields__
    ]


def value_of(settings: Settings, name: str) -> Any:
    """Return the value of a setting by its name."""
    section, _, key = name.partition(".")
    return getattr(getattr(settings, section), key)


def shown(settings: Settings, name: str) -> Any:
    """Return the value of a setting as it may be printed: without a password."""
    value = value_of(settings, name)
    return re.sub(_GIVEN_AWAY, r"\1\2***", value) if name == "store.url" else value


def _find(start: Path) -> Path | None:
    return next(
        (folder / FILE for folder in (start, *start.parents) if (folder / FILE).is_file()), None
    )


def _from_file(file: Path) -> dict[str, tuple[Any, str]]:
    try:
        text = file.read_text(encoding="utf-8")
        if all(line.lstrip()[:1] in ("", "#") for line in text.splitlines()):
            return {}
        import tomllib  # lazy: 4 ms that a project without settings of its own saves

        tables = tomllib.loads(text)
    except (ValueError, OSError) as error:  # what a TOMLDecodeError and a UnicodeDecodeError are
        message = f"{file}: {error}"
        raise InvalidSetting(message) from error
    origin = f"file {file}"
    found: dict[str, tuple[Any, str]] = {}
    for section, table in tables.items():
        if not isinstance(table, dict):
            found[section] = (table, origin)
            continue
        found.update({f"{section}.{key}": (value, origin) for key, value in table.items()})
    return found


def _check(settings: Settings, values: Mapping[str, tuple[Any, str]]) -> None:
    """Refuse values that no conductor could work with."""
    bounds = {
        "signer.every_s": (0.0, 3600.0),
        "conductor.drain_s": (0.0, 86_400.0),
        "conductor.outbox_max": (1, 10_000_000),
    }
    for name, (lowest, highest) in bounds.items():
        value = value_of(settings, name)
        if not lowest <= value <= highest:
            origin = values[name][1] if name in values else "default"
            message = f"{origin}: {name}: {value} is not within {lowest} to {highest}"
            raise InvalidSetting(message)
    schemas = ["store.schema", *(f"schemas.{field}" for field in SchemasSettings.__struct_fields__)]
    for name in schemas:
        if name in values and not re.fullmatch(_SCHEMA, value_of(settings, name)):
            origin = values[name][1]
            message = f"{origin}: {name}: not a name of small letters, digits and '_', 40 at most"
            raise InvalidSetting(message)
    relation = settings.registry.table
    if relation and not re.fullmatch(_RELATION, relation):
        origin = values["registry.table"][1]
        message = f"{origin}: registry.table: not schema.table in letters, digits and '_'"
        raise InvalidSetting(message)
    if relation and not settings.store.url:
        origin = values["registry.table"][1]
        message = f"{origin}: registry.table: a table is adopted in a PostgreSQL store only"
        raise InvalidSetting(message, hint="Set store.url, or leave registry.table empty.")
