"""No declared secret stands in anything that is kept or printed, however a function writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.e2e.project import Project
from tests.secrets.canaries import CANARIES, OPEN, random_canaries
from tests.secrets.channels import HEAD, environment, finished, granted, run, shown, told
from tests.secrets.search import Leak, Search, kept

WAYS_OUT = """
for name, data in shown():
    put(b"<" + name + b": " + data + b">\\n")
    put(b"<" + name + b": " + data + b">\\n", descriptor=2)
"""
CHUNKS = """
written = [name + b": " + data + b"\\n" for name, data in shown()]
whole = b"".join(written)
chance = random.Random(CONFIG["seed"])
# Whole ways of writing: a part of a value is not the value.
put(b"".join(written[::9]), (1,), 2)
put(whole, [chance.randint(1, 900) for _ in range(200)])
for at, value in enumerate(CANARIES.values()):
    # The border of what is read at once lies inside of the value.
    put(b"." * (65_535 - at % (len(value) - 1)) + value, (65_536,))
for value in CANARIES.values():
    put(value[:len(value) // 2])
    put(b"the other stream\\n", descriptor=2)
    wait_read()
    put(value[len(value) // 2:])
values = list(CANARIES.values())
put(b"".join(values) + b"".join(reversed(values)))
put(b"\\n".join(values[0] + value for value in values) + base64.b64encode(b":".join(values)))
if b"CANARY_OVERLAP" in CANARIES:
    put(b"\\n" + CANARIES[b"CANARY_ASCII"] + CANARIES[b"CANARY_OVERLAP"][6:])
put(values[-1], descriptor=2)
put(base64.b64encode(b"at the very end" + values[0]))
"""
LIMITS = """
for fill in range(CONFIG["fills"]):
    put(b"." * fill)
    for name, data in shown():
        put(data)
"""
RESULT = """
texts = [data.decode() for name, data in shown() if b"bytes" not in name]
plain = [value.decode() for value in CANARIES.values()]
number = CANARIES.get(b"CANARY_NUMBER", b"7")
metrics = {ascii_of(text): 1 for text in plain}
leave({"metrics": metrics, "number": int(number), "real": float(int(number)),
       "nested": [[{"k": [plain]}]], "texts": texts[:CONFIG["texts"]],
       "half": int(number) / 4 * 4, "wide": [9 * 10 ** len(number) + int(number)]})
"""
#: Results that cannot be recorded, and the sentence about them may quote them.
UNREADABLE = {
    "broken": "leave(b'{\"a\": ' + b' '.join(CANARIES.values()))",
    "key": "leave({value.decode() + 'ö': 1 for value in CANARIES.values()})",
    "deep": """
value = 1
for _ in range(20):
    value = [value]
leave({ascii_of(text.decode()): value for text in CANARIES.values()})
""",
    "large": "leave({ascii_of(text.decode()): 10 ** 17 for text in CANARIES.values()})",
    "endless": """
leave(b"{" + b", ".join(b'"%s": 1e999' % v.hex().encode() for v in CANARIES.values()) + b"}")
""",
    "latin": "leave(b'{\"a\": \"\\xff' + b' '.join(CANARIES.values()) + b'\"}')",
}
RAISES = """
held = [value.decode() for value in CANARIES.values()]
try:
    {}[held[0]]
except KeyError:
    try:
        open("/nowhere/" + "-".join(held))
    except OSError as error:
        raise ValueError(held, *CANARIES.values()) from error
"""
EXITS = """
open(os.environ["HOME"] + "/" + CANARIES[b"CANARY_ASCII"].decode(), "w").write("left here")
os.symlink(b"/nowhere/" + CANARIES[b"CANARY_PLUS"], os.environ["RUNWRIGHT_RESULT"])
sys.exit("cannot go on: " + " ".join(value.decode() for value in CANARIES.values()))
"""
ARGV = """
if len(sys.argv) == 1:
    os.execv(sys.executable, [sys.executable, __file__, *map(os.fsdecode, CANARIES.values())])
put(open("/proc/self/cmdline", "rb").read() + open("/proc/self/environ", "rb").read())
raise SystemExit(repr(sys.argv))
"""
LATER = """
put(b" ".join(CANARIES.values()))
leave({"attempt": [value.decode() for value in CANARIES.values()]})
sys.exit(75)
"""
HANGS = """
put(b" ".join(CANARIES.values()))
put(CANARIES[b"CANARY_ASCII"], descriptor=2)
select.select([], [], [], 60)
"""


def leaks_of(
    project: Project,
    canaries: dict[str, bytes],
    status: int = 5,
    ask: Callable[..., Iterator[tuple[str, bytes]]] = shown,
    form: str = "human",
) -> set[Leak]:
    """Run the spec, ask about it, and search all that was said and kept."""
    env = environment(canaries)
    done, said = run(project, env, form)
    assert done.status == status, done
    search = Search(canaries)
    found = search.look_all([*said, *ask(project, env), *kept(project)])
    print(f"searched {search.places} places, {search.bytes} bytes: {len(found)} leaks")
    return found


@pytest.mark.slow
def test_no_way_of_writing_a_secret_gets_it_past_the_masker(project: Project) -> None:
    """Forty ways of writing each of twelve values, on both streams, and in tracebacks."""
    grant = granted(CANARIES)
    project.apply(
        project.task("ways", HEAD + WAYS_OUT, priority=1, **grant),
        project.task("argv", HEAD + ARGV, priority=2, **grant),
        project.task("raises", HEAD + RAISES, priority=3, **grant),
        project.task("exits", HEAD + EXITS, priority=4, **grant),
    )
    assert leaks_of(project, CANARIES, ask=told) == set()
    runs = finished(project)
    assert [run["status"] for run in runs.values()] == ["done", "failed", "failed", "failed"]
    masked = {blob["name"]: blob["masked"] for blob in runs["ways"]["outputs"]}
    assert min(masked.values()) > 500


@pytest.mark.slow
def test_no_border_of_chunks_lets_a_secret_through(project: Project) -> None:
    """One byte at a time, random sizes, at 65,536 bytes, half before a pause, at the very end."""
    project.apply(
        project.task(
            "chunks", HEAD + CHUNKS, seed=1, limits={"output_kib": 4096}, **granted(CANARIES)
        )
    )
    assert leaks_of(project, CANARIES, status=0) == set()
    for blob in finished(project)["chunks"]["outputs"]:
        # Nothing was cut: all of it was searched.
        assert blob["whole_size"] == blob["size"]


@pytest.mark.slow
def test_where_output_is_cut_no_secret_is_left(project: Project, is_campaign: bool) -> None:
    """What lies over the limit is masked before it is cut, so no cut makes a value whole again."""
    limits = (1, 2, 5, 64) if is_campaign else (1, 3)
    tasks = [
        project.task(
            f"limit{kib}",
            HEAD + LIMITS,
            fills=3 if is_campaign else 1,
            limits={"output_kib": kib},
            **granted(CANARIES),
        )
        for kib in limits
    ]
    project.apply(*tasks)
    assert leaks_of(project, CANARIES, status=0) == set()
    for each in finished(project).values():
        assert each["outputs"][0]["whole_size"] > each["outputs"][0]["size"]


@pytest.mark.slow
def test_no_result_holds_a_secret(project: Project) -> None:
    """As value, key or number, nested, in the entry or as a blob, or quoted because it is wrong."""
    grant = granted(CANARIES)
    project.apply(
        project.task("small", HEAD + RESULT, texts=3, **grant),
        project.task("long", HEAD + RESULT, texts=10_000, **grant),
        *(project.task(name, HEAD + text, **grant) for name, text in UNREADABLE.items()),
    )
    assert leaks_of(project, CANARIES, form="json") == set()
    runs = finished(project)
    assert runs["small"]["status"] == runs["long"]["status"] == "done"
    assert [blob["name"] for blob in runs["long"]["outputs"]] == ["result"]
    assert {runs[name]["reason"] for name in UNREADABLE} == {"result"}


@pytest.mark.slow
def test_a_function_that_is_repeated_or_ended_keeps_no_secret(project: Project) -> None:
    """What a deferred attempt and one that was timed out wrote is masked like all other output."""
    grant = granted(CANARIES)
    project.apply(
        project.task("later", HEAD + LATER, **grant),
        project.task("hangs", HEAD + HANGS, timeout_s=0.5, **grant),
        retry={"attempts": 2, "min_s": 0},
    )
    assert leaks_of(project, CANARIES) == set()
    assert [run["reason"] for run in finished(project).values()] == ["deferred", "timeout"]


@pytest.mark.slow
def test_values_of_any_shape_are_masked(project: Project, is_campaign: bool) -> None:
    """Random lengths, alphabets and chunks; a campaign tries four sets of them."""
    for seed in range(4 if is_campaign else 1):
        canaries = random_canaries(seed, 12)
        source = HEAD + WAYS_OUT + CHUNKS
        project.apply(project.task("a", source, seed=seed, **granted(canaries)))
        env = environment(canaries)
        done, said = run(project, env)
        assert done.status == 0, done
        assert Search(canaries).look_all([*said, *shown(project, env), *kept(project)]) == set()


@pytest.mark.slow
def test_the_search_finds_what_was_not_declared(project: Project) -> None:
    """The control: a variable that is granted and not secret is found in every encoding."""
    canaries = dict([OPEN])
    source = HEAD.replace('b"CANARY_"', 'b"OPEN_"') + WAYS_OUT
    project.apply(project.task("a", source, env=list(canaries)))
    env = environment(canaries)
    done, _ = run(project, env)
    assert done.status == 0
    found = Search(canaries).look_all([*told(project, env), *kept(project)])
    places = {leak.place for leak in found}
    assert {"table blob", "project/.runwright/store.db", "show latest"} <= places
    assert any(place.startswith("project/out/evidence/") for place in places)
    assert any(place.startswith("bundle/") for place in places)
    assert {leak.undone for leak in found} >= {
        *((), ("base64",), ("hex",), ("URL",), ("escapes",)),
        *(("base64", "base64"), ("base64", "hex"), ("hex", "base64")),
    }
