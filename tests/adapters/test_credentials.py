"""Who signs in at a NATS server that asks: a user by its password, or by a file of credentials."""

from __future__ import annotations

import traceback

import pytest

from runwright.adapters.credentials import read_credentials
from runwright.adapters.jetstream import Loop, Server, connect
from runwright.kernel.errors import InvalidSpec
from tests.nats.server import NatsServer
from tests.nats.tokens import ACCOUNT, OPERATOR, USER, Key, configuration, write_credentials


@pytest.fixture(scope="module")
def operator():
    return Key(OPERATOR)


@pytest.fixture(scope="module")
def account():
    return Key(ACCOUNT)


@pytest.fixture(scope="module")
def strict(operator, account):
    """A server that lets in whoever an account vouches for."""
    made = NatsServer(configuration(operator, account))
    yield made
    made.close()


@pytest.fixture
def signing(strict):
    """Sign in with a file of credentials, and say whether that was so."""
    loop = Loop("signing")

    def sign(path):
        server = Server(url=strict.url, credentials=str(path), key="sources[0].nats")
        connection = loop.call(connect(server, "test"), 10)
        is_open = connection.is_open
        loop.call(connection.close(), 10)
        return is_open

    yield sign
    loop.close()


def test_a_file_of_credentials_signs_in(signing, account, tmp_path):
    """The key in it signs what the server sent."""
    assert signing(write_credentials(tmp_path / "ada.creds", account, Key(USER)))


def test_nobody_signs_in_by_another_key_or_for_another_account(signing, account, tmp_path):
    """The control: the file reads well, and the server does not believe it."""
    user = Key(USER)
    other = write_credentials(tmp_path / "key.creds", account, user, Key(USER).seed)
    foreign = write_credentials(tmp_path / "account.creds", Key(ACCOUNT), user)
    for path in (other, foreign):
        with pytest.raises(InvalidSpec, match="lets nobody in") as failed:
            signing(path)
        assert "sources[0].nats" in failed.value.hint


def test_a_file_that_is_none_is_refused_by_its_key_and_name(signing, account, tmp_path):
    """And what is in it is not shown, not even in what caused the error."""
    user = Key(USER)
    text = write_credentials(tmp_path / "good", account, user).read_text()
    for name, change, reason in (
        ("gone", None, "cannot be read: No such file or directory"),
        ("empty", lambda _: "", "is no file of NATS credentials"),
        ("large", lambda it: it + " " * 65_536, "is no file of NATS credentials"),
        ("no-seed", lambda it: it.replace("SEED", "SEEN"), "is no file of NATS credentials"),
        ("turned", lambda it: it.replace(user.seed, user.seed[::-1]), "its seed is not"),
        ("no-base32", lambda it: it.replace(user.seed, user.seed[:-1] + "1"), "its seed is not"),
        ("account", lambda it: it.replace(user.seed, Key(ACCOUNT).seed), "its seed is not"),
    ):
        path = tmp_path / name
        if change:
            path.write_text(change(text))
        with pytest.raises(InvalidSpec, match=reason) as failed:
            signing(path)
        assert str(failed.value).startswith(f"sources[0].nats.credentials: {path}")
        assert user.seed[:-1] not in "".join(traceback.format_exception(failed.value))
    assert read_credentials(tmp_path / "good").token() in text.encode()


def test_a_server_shows_no_password():
    """Wherever somebody prints it."""
    server = Server(url="nats://ada:word1234@h:1", user="ada", password="word1234")
    assert repr(server) == "Server(nats://h:1)"
