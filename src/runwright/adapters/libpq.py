"""Connections to PostgreSQL: where they lead, how they are made, and what their errors mean.

No password is part of any name or message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from runwright.kernel.errors import (
    InvalidSetting,
    RunwrightError,
    StoreCorrupt,
    StoreMissing,
    StoreUnreachable,
    StoreUnwritable,
)

#: What stands in `store.url` for "wherever the environment says".
ENVIRONMENT: Final = ("postgresql:", "postgres:")
#: What a connection is made with unless the URL or the environment says otherwise.
DEFAULTS: Final[Mapping[str, str]] = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
#: The parameters that say where a connection leads, and the one that is never shown.
SHOWN: Final[Mapping[str, str]] = {
    "host": "PGHOST",
    "port": "PGPORT",
    "dbname": "PGDATABASE",
    "user": "PGUSER",
}
SECRET: Final = "password"  # noqa: S105 - the name of a parameter

#: Part of what a server says that refuses a connection -> what it means.
_REFUSALS: Final = (
    (re.compile(r'database ".*" does not exist'), StoreMissing),
    (re.compile(r"password authentication failed|no password supplied"), InvalidSetting),
    (re.compile(r'role ".*" does not exist|no pg_hba\.conf entry|authentication'), InvalidSetting),
)


class Parameter(NamedTuple):
    """One parameter of a connection, as it is shown, under the name of its variable."""

    name: str
    value: str
    origin: str


class Target(NamedTuple):
    """Where a store is: never printed as it is, its conninfo may hold a password."""

    conninfo: str
    #: What messages call it.
    name: str
    schema: str

    def __repr__(self) -> str:
        return self.name


def target(url: str, schema: str, environment: Mapping[str, str], *, origin: str = "") -> Target:
    """Return where a URL leads; "postgresql:" follows DATABASE_URL, then libpq's variables.

    Raises: invalid-setting, without the URL.
    """
    conninfo, _ = _chosen(url, environment, origin)
    given = _parsed(url, environment, origin)
    known = {option.keyword.decode() for option in Conninfo.get_defaults() if option.val}
    extra = {name: text for name, text in DEFAULTS.items() if name not in {*given, *known}}
    shown = {each.name: each.value for each in parameters(url, environment, origin=origin)}
    host, port = shown["PGHOST"] or "localhost", shown["PGPORT"]
    database = shown["PGDATABASE"] or shown["PGUSER"]
    where = f"{host}:{port}" if not host.startswith(("/", "@")) else f"[{host}]:{port}"
    name = f"postgresql://{where}/{database} (schema {schema})"
    return Target(make_conninfo(conninfo, **extra), name, schema)


def parameters(url: str, environment: Mapping[str, str], *, origin: str = "") -> list[Parameter]:
    """Return where a connection leads, each parameter with where it comes from.

    Raises: invalid-setting, without the URL.
    """
    _, source = _chosen(url, environment, origin)
    given = _parsed(url, environment, origin)
    found = []
    for option in Conninfo.get_defaults():
        name = option.keyword.decode()
        if name not in SHOWN:
            continue
        variable = SHOWN[name]
        value = (option.val or b"").decode()
        came = f"environment {variable}" if variable in environment else "default"
        if name in given:
            value, came = str(given[name]), source
        found.append(Parameter(variable, value, came))
    return sorted(found, key=lambda each: list(SHOWN.values()).index(each.name))


def _chosen(url: str, environment: Mapping[str, str], origin: str) -> tuple[str, str]:
    """Return the connection string and where it comes from."""
    if url.strip() in ENVIRONMENT:
        if environment.get("DATABASE_URL"):
            return environment["DATABASE_URL"], "environment DATABASE_URL"
        return "", origin
    return url, origin


def _parsed(url: str, environment: Mapping[str, str], origin: str) -> dict[str, Any]:
    conninfo, source = _chosen(url, environment, origin)
    if conninfo and not conninfo.startswith(("postgresql://", "postgres://")):
        scheme = re.match(r"[A-Za-z0-9+.-]{1,40}(?=:)", conninfo)
        said = f" but with {scheme[0]}:" if scheme else ""
        message = f"{source}: the URL of the store begins not with postgresql://{said}"
        raise InvalidSetting(message)
    try:
        return dict(conninfo_to_dict(conninfo))
    except psycopg.Error:
        # What libpq says about it may quote a part of the password.
        message = f"{source}: the URL of the store cannot be read; special characters are %-encoded"
        raise InvalidSetting(message) from None


def connect(
    place: Target, session: bytes, *, role: str = "runwright", read_only: bool = False
) -> psycopg.Connection[Any]:
    """Connect and set up a session of autocommitted statements.

    Raises: store-unreachable, store-missing for a database that is not there, invalid-setting for
    a user that is not let in.
    """
    try:
        made = psycopg.connect(place.conninfo, autocommit=True, application_name=role)
    except psycopg.Error as error:
        raise _refused(error, place) from None
    try:
        made.execute(session)
        if read_only:
            made.execute(b"SET default_transaction_read_only = on")
        made.execute(f'SET search_path = "{place.schema}", pg_catalog'.encode())
    except psycopg.Error as error:
        made.close()
        raise translate(error, place.name) from error
    return made


def _refused(error: psycopg.Error, place: Target) -> RunwrightError:
    """Return our error for a connection that was not made."""
    text = masked(_one_line(error), place)
    text = text.removeprefix("connection failed: ")
    message = f"{place.name}: {text}"
    for pattern, kind in _REFUSALS:
        if pattern.search(text):
            if kind is StoreMissing:
                hint = "Create the database (`createdb`), then give `runwright init`."
            else:
                hint = (
                    "The user and the password come from store.url, DATABASE_URL, PGUSER, "
                    "PGPASSWORD or ~/.pgpass; `runwright config show --origin` says which."
                )
            return kind(message, hint=hint)
    return StoreUnreachable(message)


def masked(text: str, place: Target) -> str:
    """Return text without the password of a connection."""
    password = conninfo_to_dict(place.conninfo).get(SECRET)
    return text.replace(str(password), "***") if password else text


def _one_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())


def translate(error: psycopg.Error, name: str) -> RunwrightError:
    """Return our error for one that was raised before any COMMIT."""
    state = error.sqlstate or ""
    message = f"{name}: {_one_line(error)}"
    if not state or state[:2] == "08" or state in ("57P01", "57P02", "57P03", "57P05", "25P03"):
        broken = isinstance(error, psycopg.OperationalError)
        return StoreUnreachable(message) if broken else StoreUnwritable(message)
    if state[:2] in ("23", "XX") or state == "P0001":
        return StoreCorrupt(message)
    if state in ("42P01", "3F000"):
        return StoreMissing(message)
    if state == "42501":
        hint = "`runwright db roles` says which role may do what."
        return StoreUnwritable(message, hint=hint)
    return StoreUnwritable(message)
