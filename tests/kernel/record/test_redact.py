"""No form of a secret gets through, at whatever place chunks are cut; what is kept is bounded."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runwright.kernel.errors import Refused
from runwright.kernel.record.redact import SECRET_MAX, Capture, Masker

SECRET = 'pä$$ w"rd/+<&>~42\\'
SALT = b"s" * 32


def forms(value: str) -> dict[str, bytes]:
    data = value.encode()
    found = {
        "exact": data,
        "hex": data.hex().encode(),
        "HEX": data.hex().upper().encode(),
        "url": quote(data, safe="").encode(),
        "url with slashes": quote(data).encode(),
        "url of a form": quote_plus(data).encode(),
        "url in lower case": quote(data, safe="").lower().encode(),
        "json": json.dumps(value).encode()[1:-1],
        "json in utf-8": json.dumps(value, ensure_ascii=False).encode()[1:-1],
    }
    for start in range(3):
        text = base64.b64encode(b"x" * start + data + b"yz")
        found[f"base64 at {start}"] = text
        found[f"base64url at {start}"] = base64.urlsafe_b64encode(b"x" * start + data + b"yz")
    return found


@pytest.mark.parametrize("name", forms(SECRET))
def test_every_form_of_a_secret_is_masked(name: str) -> None:
    shown = forms(SECRET)[name]
    masker = Masker({"TOKEN": SECRET})
    masked = masker.mask(b"before " + shown + b" after")
    assert b"[secret:TOKEN]" in masked
    assert masked.startswith(b"before ")
    assert masked.endswith(b" after")
    # What is left of base64 are the letters that the neighbours of the value decide.
    assert len(masked) <= len(b"before [secret:TOKEN] after") + (8 if "base64" in name else 0)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_secret_cut_at_any_place_is_masked(data: st.DataObject) -> None:
    value = data.draw(st.binary(min_size=6, max_size=40))
    around = data.draw(st.lists(st.binary(max_size=60), min_size=2, max_size=5))
    whole = value.join(around)
    masker = Masker({"A": value})
    stream = masker.stream()
    parts = []
    at = 0
    while at < len(whole):
        step = data.draw(st.integers(1, 30))
        parts.append(stream.feed(whole[at : at + step]))
        at += step
    masked = b"".join([*parts, stream.close()])
    assert masked == masker.mask(whole)
    assert value not in masked or value in b"[secret:A]"
    assert stream.count >= 1


@given(st.binary(min_size=6, max_size=60), st.binary(max_size=5), st.binary(max_size=5))
@settings(max_examples=150)
def test_base64_of_a_secret_among_others_does_not_give_it_away(
    value: bytes, before: bytes, after: bytes
) -> None:
    masked = Masker({"A": value}).mask(base64.b64encode(before + value + after))
    if len(value) >= 12:
        assert b"[secret:A]" in masked


def test_a_secret_that_contains_another_one_is_masked_as_a_whole() -> None:
    masker = Masker({"SHORT": "abcdef", "LONG": "abcdefghi"})
    assert masker.mask(b"abcdefghi abcdefgh") == b"[secret:LONG] [secret:SHORT]gh"


def test_lines_of_a_long_secret_are_masked_alone() -> None:
    secret = "\n".join(["-----BEGIN KEY-----", "A" * 64, "B" * 64, "-----END KEY-----"])
    masked = Masker({"KEY": secret}).mask(b"  " + b"\n  ".join(secret.encode().split(b"\n")))
    assert b"AAAAAAAA" not in masked
    assert b"BBBBBBBB" not in masked


def test_base64_as_the_tool_breaks_it_is_masked() -> None:
    secret = bytes(range(33, 126)) * 3
    shown = subprocess.run(["base64"], input=secret, capture_output=True, check=True).stdout
    masked = Masker({"KEY": secret}).mask(shown)
    assert masked.replace(b"[secret:KEY]", b"").strip() == b""


def test_what_is_not_secret_is_left_alone() -> None:
    text = b"nothing of it \xff\x00" * 1000
    assert Masker({"TOKEN": SECRET}).mask(text) == text
    assert Masker({}).mask(text) == text


@pytest.mark.parametrize("value", ["", "12345", "é" * 2, "x" * (SECRET_MAX + 1)])
def test_a_value_too_short_or_too_long_is_refused(value: str) -> None:
    with pytest.raises(Refused, match=r"the secret TOKEN has \d+ bytes; 6 to \d+ work"):
        Masker({"TOKEN": value})


# --------------------------------------------------------------------------------------- capture


def test_what_fits_is_kept_as_it_is() -> None:
    capture = Capture(limit=100, masker=Masker({"TOKEN": SECRET}), salt=SALT)
    capture.feed(b"line one\n" + SECRET.encode()[:5])
    capture.feed(SECRET.encode()[5:] + b"\n")
    kept = capture.close("stdout")
    assert kept is not None
    blob, content = kept.blob, kept.content
    assert content.data == b"line one\n[secret:TOKEN]\n"
    assert blob.digest == content.digest == hashlib.sha256(SALT + content.data).hexdigest()
    assert (blob.name, blob.size, blob.salted, blob.masked) == ("stdout", 24, True, 1)
    assert (blob.whole_digest, blob.whole_size) == ("", 0)
    assert content.salt == SALT


def test_nothing_written_is_nothing_kept() -> None:
    assert Capture(limit=100, masker=Masker({}), salt=SALT).close("stdout") is None


@given(st.lists(st.binary(max_size=80), min_size=1, max_size=40), st.integers(0, 300))
@settings(max_examples=100)
def test_of_a_long_stream_the_two_ends_are_kept(chunks: list[bytes], limit: int) -> None:
    capture = Capture(limit=limit, masker=Masker({}), salt=SALT)
    for chunk in chunks:
        capture.feed(chunk)
    whole = b"".join(chunks)
    kept = capture.close("stdout")
    if not whole:
        assert kept is None
        return
    assert kept is not None
    half = limit // 2
    if len(whole) <= limit:
        assert kept.content.data == whole
        assert kept.blob.whole_digest == ""
    else:
        assert kept.content.data == whole[:half] + whole[len(whole) - (limit - half) :]
        assert kept.blob.whole_digest == hashlib.sha256(SALT + whole).hexdigest()
        assert kept.blob.whole_size == len(whole)
    assert kept.blob.size == len(kept.content.data) <= limit


def test_a_stream_longer_than_every_buffer_keeps_its_ends() -> None:
    capture = Capture(limit=1000, masker=Masker({"TOKEN": SECRET}), salt=SALT)
    whole = b"".join(b"%d\n" % number for number in range(600_000))
    for at in range(0, len(whole), 65_536):
        capture.feed(whole[at : at + 65_536])
    kept = capture.close("stdout")
    assert kept is not None
    assert kept.content.data == whole[:500] + whole[-500:]
    assert kept.blob.whole_digest == hashlib.sha256(SALT + whole).hexdigest()


@pytest.mark.slow
def test_a_flood_of_tiny_chunks_costs_time_in_proportion() -> None:
    """Four times the output takes about four times as long, also while much is held back."""

    def spent(count: int) -> float:
        masking = Masker({"KEY": "key " * 1000 + "!"}).stream()
        start = time.process_time()
        for number in range(count):
            masking.feed(b"%08d" % number)
        masking.close()
        return time.process_time() - start

    small = min(spent(10_000) for _ in range(3))
    assert min(spent(40_000) for _ in range(3)) < 12 * small + 0.05
