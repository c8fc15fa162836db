"""The masker on its own: any value, any neighbours, any chunks; and text without a secret."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runwright.adapters.commands import parse_result
from runwright.kernel.record.redact import Capture, Masker
from tests.secrets.canaries import CANARIES, random_canaries
from tests.secrets.forms import WAYS
from tests.secrets.search import Search

#: A value with too few different signs is found in anything.
VALUES = st.one_of(
    st.text(min_size=6, max_size=40).filter(lambda text: text.isprintable() or "\n" in text),
    st.text(alphabet="\\\"'/%+= \nabAB12", min_size=6, max_size=30),
).filter(lambda text: len(set(text.strip())) > 4 and len(text.strip().encode()) >= 6)
AROUND = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=30)


def captured(value: bytes, whole: bytes, sizes: list[int], limit: int = 1 << 20) -> bytes:
    """Return what is kept of a stream that came in chunks of these sizes."""
    capture = Capture(limit=limit, masker=Masker({"A": value}), salt=b"s" * 32)
    at = turn = 0
    while at < len(whole):
        size = sizes[turn % len(sizes)]
        capture.feed(whole[at : at + size])
        at, turn = at + size, turn + 1
    kept = capture.close("stdout")
    assert kept is not None
    assert kept.content.digest == hashlib.sha256(b"s" * 32 + kept.content.data).hexdigest()
    return kept.content.data


@pytest.mark.slow
@example("0012\n\U00100000", "repr", "", [1])
@given(VALUES, st.sampled_from(sorted(WAYS)), AROUND, st.lists(st.integers(1, 400), min_size=1))
@settings(max_examples=80, deadline=None)
def test_no_chunks_and_no_neighbours_let_a_value_through(
    value: str, way: str, around: str, sizes: list[int]
) -> None:
    """However a value is written and the stream is cut, the same is kept, and not the value."""
    data, beside = value.encode(), f" [{around}] ".encode()
    search = Search({"A": data})
    shown = WAYS[way](data)
    if search.look("around", beside):
        return
    # The control: the search sees it in what the function wrote.
    assert search.look("written", shown)
    # Long enough that much is passed on before the end, and every border is met.
    whole = (beside * 3 + shown + beside) * 40
    kept = captured(data, whole, sizes)
    assert search.look("kept", kept.replace(b"[secret:A]", b"\x00")) == set()
    assert kept == captured(data, whole, [len(whole)])
    assert kept.count(b"[secret:A]") >= 40


@given(VALUES, st.binary(max_size=3000), st.lists(st.integers(1, 400), min_size=1))
@settings(max_examples=80, deadline=None)
def test_what_holds_no_secret_passes_unchanged(value: str, whole: bytes, sizes: list[int]) -> None:
    """Not one byte of other output is touched, escapes and base64 included."""
    whole += WAYS["JSON"](b'"\\ \n/') + WAYS["base64 in lines"](b"others") + b"%41%zz\\u12 \\"
    if Search({"A": value.encode()}).look("whole", whole):
        return
    assert captured(value.encode(), whole, sizes) == whole


@pytest.mark.parametrize("name", CANARIES)
def test_every_canary_is_masked_in_every_way(name: str) -> None:
    """Each value alone, all at once declared, in all ways, right beside other output."""
    masker = Masker(CANARIES)
    search = Search(CANARIES)
    for way, write in WAYS.items():
        written = b"<<" + write(CANARIES[name]) + b">>"
        assert {leak.canary for leak in search.look(way, written)} >= {name}
        assert search.look(way, masker.mask(written)) == set()


@pytest.mark.slow
def test_every_random_canary_is_masked_in_every_way(is_campaign: bool) -> None:
    """Values of many lengths and alphabets, in all ways; a campaign tries 120 sets of twelve."""
    for seed in range(120 if is_campaign else 3):
        canaries = random_canaries(1000 + seed, 12)
        masker, search = Masker(canaries), Search(canaries)
        for name, value in canaries.items():
            for way, write in WAYS.items():
                written = b"<<" + write(value) + b">>"
                assert {leak.canary for leak in search.look(way, written)} >= {name}
                assert search.look(f"{seed} {way}", masker.mask(written)) == set()


def test_a_value_that_gets_shorter_when_it_is_printed_is_masked_as_it_is() -> None:
    """Six bytes of which Python prints five: nothing under the shortest length is looked for."""
    value = "0123\x80"
    assert Masker({"A": value}).mask(f"<{value}>".encode()) == b"<[secret:A]>"


def test_a_value_that_is_no_text_may_end_inside_of_a_character() -> None:
    """A secret of bytes leaves a result that can be recorded, and is not in it."""
    raw = '{"k": "äbcdefgh"}'.encode()
    result, data = parse_result(raw, Masker({"A": "ä".encode()[1:] + b"bcdefgh"}))
    assert result == {"k": "\ufffd[secret:A]"}
    assert b"bcdefgh" not in data
