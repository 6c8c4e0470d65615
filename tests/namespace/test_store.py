"""The store tells each worker what others committed since it last heard, and refuses what comes too late."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from mpkernel.namespace.component import DELETED, HELD, LOST, Component
from mpkernel.namespace.store import DEADLY, LAST_DELETIONS, MAX_SENT_UNASKED, MOST_LOSERS, Clash, NamespaceStore

A, B, C = 1, 2, 3


@pytest.fixture
def store() -> NamespaceStore:
    return NamespaceStore()


def value(text: str, *names: str, stubs: Iterable[str] = ()) -> Component:
    return Component(names, meta={"stubs": list(stubs)}, blobs=(text.encode(),))


def commit(
    store: NamespaceStore,
    worker: int,
    after: int = 10**9,
    deleted: Iterable[str] = (),
    stubs: Iterable[str] = (),
    **names: str,
) -> Clash | None:
    """Commit names, each a component of its own; by default, having seen all that the worker was told."""
    parts = [value(text, name) for name, text in names.items()]
    parts += [Component((name,), DELETED) for name in deleted]
    parts += [value("stub", name, stubs=[name]) for name in stubs]
    return store.commit(worker, after, parts)


def heard(store: NamespaceStore, worker: int) -> dict[str, str | None]:
    """What the worker hears: values by name, None for what was deleted."""
    telling = store.news(worker)
    if telling is None:
        return {}
    assert telling.sent
    return {
        name: None if part.kind == DELETED else part.blobs[0].decode()
        for part in telling.sent
        for name in part.meta["take"]
    }


def test_a_worker_hears_what_others_committed_once(store: NamespaceStore) -> None:
    commit(store, A, x="1", y="2")
    assert heard(store, B) == {"x": "1", "y": "2"}
    assert heard(store, B) == {}
    commit(store, A, x="3")
    assert heard(store, B) == {"x": "3"}


def test_a_worker_does_not_hear_its_own(store: NamespaceStore) -> None:
    commit(store, A, x="1")
    commit(store, B, y="2")
    assert heard(store, A) == {"y": "2"}
    assert heard(store, B) == {"x": "1"}


def test_a_worker_hears_the_newest_of_many_values(store: NamespaceStore) -> None:
    for n in range(5):
        commit(store, A, x=str(n))
    assert heard(store, B) == {"x": "4"}


def test_a_deletion_is_heard(store: NamespaceStore) -> None:
    commit(store, A, x="1")
    assert heard(store, B) == {"x": "1"}
    commit(store, B, deleted=["x"])
    assert heard(store, A) == {"x": None}
    assert heard(store, A) == {}


def test_the_deletion_of_what_was_never_committed_is_heard(store: NamespaceStore) -> None:
    """Startup files make names in every worker, without a commit."""
    commit(store, A, deleted=["from_startup"])
    assert heard(store, B) == {"from_startup": None}


def test_a_name_may_come_back(store: NamespaceStore) -> None:
    commit(store, A, x="1")
    commit(store, A, deleted=["x"])
    commit(store, A, x="2")
    assert heard(store, B) == {"x": "2"}


def test_a_new_worker_hears_everything(store: NamespaceStore) -> None:
    commit(store, A, x="1")
    commit(store, B, y="2")
    store.forget(A)
    store.forget(B)
    assert heard(store, C) == {"x": "1", "y": "2"}


def test_values_come_in_the_order_in_which_they_were_committed(store: NamespaceStore) -> None:
    for name in ("c", "a", "b", "c"):
        commit(store, A, **{name: name})
    assert list(heard(store, B)) == ["a", "b", "c"]


def test_news_are_none_if_there_are_only_ones_own(store: NamespaceStore) -> None:
    assert store.news(A) is None
    commit(store, A, x="1")
    assert store.news(A) is None


def test_names_that_share_objects_are_told_together(store: NamespaceStore) -> None:
    store.commit(A, 0, [value("both", "x", "y")])
    telling = store.news(B)
    assert telling is not None
    assert [part.names for part in telling.sent] == [("x", "y")]


def test_of_names_that_once_shared_objects_only_the_current_ones_are_taken(store: NamespaceStore) -> None:
    store.commit(A, 0, [value("both", "x", "y")])
    commit(store, A, x="alone")
    telling = store.news(B)
    assert telling is not None
    assert [(part.names, part.meta["take"]) for part in telling.sent] == [(("x", "y"), ["y"]), (("x",), ["x"])]


# --- two at once ------------------------------------------------------------------------------------------------------


def test_a_commit_on_what_was_told_is_taken(store: NamespaceStore) -> None:
    commit(store, A, x="1")
    store.news(B)
    assert commit(store, B, x="2") is None
    assert heard(store, A) == {"x": "2"}


def test_a_commit_that_comes_too_late_is_refused_with_both_versions(store: NamespaceStore) -> None:
    commit(store, A, x="base")
    store.news(B)
    commit(store, B, x="theirs")
    clash = commit(store, A, x="mine", y="other")
    assert clash is not None
    assert clash.names == {"x"}
    assert [part.blobs for part in clash.theirs] == [(b"theirs",)]
    assert [part.blobs for part in clash.base] == [(b"base",)]
    assert heard(store, B) == {"y": "other"}


def test_what_was_told_but_not_yet_heard_comes_too_late(store: NamespaceStore) -> None:
    commit(store, A, x="1")
    telling = store.news(B)
    assert telling is not None
    assert commit(store, B, after=telling.number - 1, x="2") is not None
    assert commit(store, B, after=telling.number, x="2") is None


def test_after_it_has_merged_a_worker_commits_again(store: NamespaceStore) -> None:
    commit(store, A, x="1")
    clash = commit(store, B, after=0, x="2")
    assert clash is not None
    number = store.clash_told(B, clash)
    assert store.clashing(B)
    assert commit(store, B, after=number - 1, x="3") is None  # it will commit that again, merged
    assert store.clashing(B)
    assert commit(store, B, after=number, x="1+3") is None
    assert not store.clashing(B)
    assert heard(store, A) == {"x": "1+3"}


def test_it_may_be_overtaken_again(store: NamespaceStore) -> None:
    commit(store, A, x="1")
    clash = commit(store, B, after=0, x="2")
    assert clash is not None
    number = store.clash_told(B, clash)
    commit(store, A, x="1b")
    clash = commit(store, B, after=number, x="1+2")
    assert clash is not None
    assert [part.blobs for part in clash.theirs] == [(b"1b",)]
    assert [part.blobs for part in clash.base] == [(b"1",)]
    number = store.clash_told(B, clash)
    assert store.commit(B, number, [value("1b+2", "x")], force=True) is None
    assert not store.clashing(B)


def test_from_a_void_merge_nobody_has_started(store: NamespaceStore) -> None:
    """Nor if that turns out while it waits to be told of a later one, which relied on the first."""
    commit(store, A, x="1", d="1", z="1")
    store.news(B)
    store.commit(A, 0, [value("2", "x", "d")])
    first = commit(store, B, after=1, x="1b")
    assert first is not None
    number = store.clash_told(B, first)
    second = store.commit(B, number - 1, [value("1c", "x", "z")])
    assert second is not None
    assert second.relies_on == {number}
    void = commit(store, B, after=number - 1, d="1b")
    assert void is not None
    second.add(void)
    told = store.brought_up(B, second)
    assert told.relies_on == set()
    assert {tuple(part.given): part.blobs for part in told.base} == dict.fromkeys([("x",), ("d",), ("z",)], (b"1",))


def test_what_is_to_be_sent_again_has_changed(store: NamespaceStore) -> None:
    """Its worker knows that, and neither takes over nor merges what it was told since as if it hadn't."""
    commit(store, A, x="1", d="1")
    store.news(B)
    store.commit(A, 0, [value("2", "x", "d")])
    clash = commit(store, B, after=1, x="1b")
    assert clash is not None
    number = store.clash_told(B, clash)
    void = store.commit(B, number - 1, [Component(("d",), LOST)])
    assert void is not None
    assert (void.names, void.relies_on) == ({"x"}, set())
    assert {tuple(part.given): part.blobs for part in void.base} == dict.fromkeys([("x",), ("d",)], (b"1",))
    assert {part.names for part in store.heads()} == {("x", "d")}


def test_who_is_to_send_a_value_again_is_told_no_other_before(store: NamespaceStore) -> None:
    """It would take that for newer than its own."""
    commit(store, A, x="1", y="1")
    assert heard(store, B) == {"x": "1", "y": "1"}
    store.commit(B, 1, [Component(("x",), LOST)])
    commit(store, A, x="2", y="2")
    assert store.only(B, ["x"]) is None
    assert heard(store, B) == {"y": "2"}
    clash = commit(store, B, x="1b")
    assert clash is not None
    assert clash.names == {"x"}
    store.resent(B, ["x"])
    commit(store, B, store.clash_told(B, clash), x="1b, 2")
    assert heard(store, A) == {"x": "1b, 2"}
    commit(store, A, x="3")
    assert heard(store, B) == {"x": "3"}


def test_a_merge_that_leaves_nothing_to_commit_is_over(store: NamespaceStore) -> None:
    commit(store, A, x="1")
    clash = commit(store, B, after=0, x="2")
    assert clash is not None
    number = store.clash_told(B, clash)
    store.commit(B, number, [])
    assert not store.clashing(B)


def test_what_a_merge_overruled_can_be_asked_for(store: NamespaceStore) -> None:
    commit(store, A, x="1")
    clash = commit(store, B, after=0, x="2")
    assert clash is not None
    store.commit(B, store.clash_told(B, clash), [value("2", "x")], lost=["x"])
    loser = store.loser("x")
    assert loser is not None
    assert loser.blobs == (b"1",)
    assert store.loser("y") is None


def test_what_was_changed_elsewhere_survives_a_deletion(store: NamespaceStore) -> None:
    commit(store, A, x="1")
    store.news(B)
    commit(store, A, x="2")
    assert commit(store, B, deleted=["x"]) is None
    assert heard(store, B) == {"x": "2"}


def test_what_is_changed_survives_a_deletion_elsewhere(store: NamespaceStore) -> None:
    commit(store, A, x="1")
    store.news(B)
    commit(store, A, deleted=["x"])
    assert commit(store, B, x="2") is None
    assert heard(store, A) == {"x": "2"}


# --- what isn't sent unasked ------------------------------------------------------------------------------------------


def test_what_is_large_is_offered_and_sent_when_it_is_wanted(store: NamespaceStore) -> None:
    commit(store, A, x="x" * (MAX_SENT_UNASKED + 1))
    telling = store.news(B)
    assert telling is not None
    assert (telling.sent, [part.names for part in telling.offered]) == ([], [("x",)])
    telling = store.news(B, {"x"})
    assert telling is not None
    assert [part.names for part in telling.sent] == [("x",)]
    assert store.news(B, {"x"}) is None


def test_what_a_worker_holds_has_no_value_yet(store: NamespaceStore) -> None:
    store.commit(A, 0, [Component(("x",), HELD)])
    assert store.holder("x") == A
    telling = store.news(B, {"x"})
    assert telling is not None
    assert telling.sent == []
    commit(store, A, x="1")
    assert store.holder("x") is None
    assert heard(store, B) == {"x": "1"}


def test_what_was_only_offered_is_not_changed_in_place(store: NamespaceStore) -> None:
    """The worker has the value before that; the change is of that one."""
    commit(store, A, x="old")
    heard(store, B)
    store.commit(A, 0, [Component(("x",), HELD)])
    told = store.news(B)
    assert told is not None
    clash = store.commit(B, told.number, [Component(("x",), meta={"rebound": []}, blobs=(b"old+mine",))])
    assert clash is not None
    assert [part.kind for part in clash.theirs] == [HELD]
    assert [part.blobs for part in clash.base] == [(b"old",)]
    assert store.holder("x") == A


def test_what_was_only_offered_can_be_replaced_and_deleted(store: NamespaceStore) -> None:
    for name in ("x", "y"):
        commit(store, A, **{name: "old"})
    heard(store, B)
    store.commit(A, 0, [Component(("x",), HELD), Component(("y",), HELD)])
    told = store.news(B)
    assert told is not None
    new = Component(("x",), meta={"rebound": ["x"]}, blobs=(b"new",))
    assert store.commit(B, told.number, [new, Component(("y",), DELETED)]) is None
    assert heard(store, A) == {"x": "new", "y": None}


def test_what_is_replaced_before_the_offer_has_come_is_merged(store: NamespaceStore) -> None:
    commit(store, A, x="old")
    heard(store, B)
    store.commit(A, 0, [Component(("x",), HELD)])
    told = store.news(B)
    assert told is not None
    new = Component(("x",), meta={"rebound": ["x"]}, blobs=(b"new",))
    assert store.commit(B, told.number - 1, [new]) is not None


def test_a_merge_tells_which_names_were_bound_to_another_object(store: NamespaceStore) -> None:
    def part(content: bytes, *bound: str) -> Component:
        return Component(("x", "y", "z"), meta={"rebound": ["x", "y", "z"], "bound": list(bound)}, blobs=(content,))

    store.commit(A, 0, [part(b"1", "x", "y", "z")])
    heard(store, B)
    assert store.commit(A, 0, [part(b"2", "x")]) is None
    assert store.commit(A, 0, [part(b"3")]) is None
    clash = store.commit(B, 1, [part(b"4", "y")])
    assert clash is not None
    assert (clash.bound_there, clash.bound_here) == ({"x"}, {"y"})
    assert store.commit(B, 1, [part(b"5", "z")]) is None  # it was told before
    clash = store.brought_up(B, clash)
    assert (clash.bound_there, clash.bound_here) == ({"x"}, {"y", "z"})
    number = store.clash_told(B, clash)
    assert store.commit(B, number, [part(b"6")]) is None  # it has merged
    heard(store, A)
    store.commit(B, number, [part(b"7")])
    clash = store.commit(A, 0, [part(b"8", "x")])
    assert clash is not None
    assert (clash.bound_there, clash.bound_here) == (set(), {"x"})


def test_a_name_that_was_not_there_counts_as_bound(store: NamespaceStore) -> None:
    commit(store, A, x="1")
    clash = store.commit(B, 0, [value("2", "x")])
    assert clash is not None
    assert (clash.bound_there, clash.bound_here) == ({"x"}, {"x"})


def test_who_goes_its_own_way_is_told_only_what_it_wants(store: NamespaceStore) -> None:
    commit(store, A, x="1", y="1", both="1")
    telling = store.only(B, ["y", "nowhere"])
    assert telling is not None
    assert [part.meta["take"] for part in telling.sent] == [["y"]]
    assert store.only(B, ["nowhere"]) is None
    assert store.only(A, ["y"]) is None
    store.commit(A, 0, [value("2", "x", "y")])
    telling = store.only(B, ["y"])  # which it may have changed since
    assert telling is not None
    assert [(part.names, part.meta["take"]) for part in telling.sent] == [(("x", "y"), ["y"])]


def offered(store: NamespaceStore, worker: int) -> list[str]:
    telling = store.news(worker, {"x"})
    return [] if telling is None else [name for part in telling.offered for name in part.names]


def test_for_what_is_lost_with_its_holder_the_value_before_that_counts(store: NamespaceStore) -> None:
    commit(store, A, x="old")
    heard(store, B)
    commit(store, B)  # has it
    store.commit(A, 0, [Component(("x",), HELD)])
    assert offered(store, B) == ["x"]
    store.forget(A, [B])
    assert heard(store, B) == {"x": "old"}  # again, so that it doesn't ask for the other one
    assert heard(store, C) == {"x": "old"}
    assert offered(store, B) == []
    assert commit(store, B, x="new") is None


def test_what_is_lost_with_its_holder_is_deleted_if_nobody_has_the_value_before_that(store: NamespaceStore) -> None:
    store.commit(A, 0, [Component(("x",), HELD)])
    assert offered(store, B) == ["x"]
    store.forget(A, [B])
    assert heard(store, B) == {"x": None}
    assert offered(store, B) == []


def test_what_is_lost_with_its_holder_and_nobody_was_told_of_was_never_there(store: NamespaceStore) -> None:
    store.commit(A, 0, [Component(("x",), HELD)])
    store.forget(A, [B])
    assert heard(store, B) == {}


def test_the_value_before_that_may_be_held_by_another(store: NamespaceStore) -> None:
    store.commit(B, 0, [Component(("x",), HELD)])
    assert offered(store, A) == ["x"]
    store.commit(A, 10**9, [Component(("x",), HELD)])
    assert offered(store, B) == ["x"]
    assert store.forget(A, [B]) == []
    assert store.holder("x") == B
    assert offered(store, B) == []
    assert offered(store, C) == ["x"]
    assert commit(store, B, x="copied") is None


# --- what could not be pickled ----------------------------------------------------------------------------------------


def test_what_lives_in_one_process_only_is_lost_with_it_and_its_stub_stays(store: NamespaceStore) -> None:
    commit(store, A, stubs=["file"], x="1")
    assert (store.lost_names(A), store.lost_names(B), store.kept_names()) == (["file"], [], ["x"])
    store.forget(A)
    assert heard(store, B) == {"file": "stub", "x": "1"}


def test_a_value_that_can_be_pickled_again_is_kept_again(store: NamespaceStore) -> None:
    commit(store, A, stubs=["x"])
    commit(store, A, x="1")
    assert (store.lost_names(A), store.kept_names()) == ([], ["x"])


def test_names_are_told_in_order(store: NamespaceStore) -> None:
    commit(store, A, stubs=["z", "y"], b="1", a="2")
    assert (store.lost_names(A), store.kept_names()) == (["y", "z"], ["a", "b"])


def test_old_versions_are_let_go_when_nobody_has_them_any_more(store: NamespaceStore) -> None:
    import gc
    import weakref

    commit(store, A, x="old")
    telling = store.news(B)
    assert telling is not None
    old = weakref.ref(store._heads["x"])
    commit(store, A, x="new")
    telling = store.news(B)
    assert telling is not None
    gc.collect()
    assert old() is not None  # it may be what B's next commit started from
    store.heard(B, telling.number)
    gc.collect()
    assert old() is None


def test_what_was_refused_stays_refused_until_it_was_merged(store: NamespaceStore) -> None:
    """Though the worker may have been told the other value in between."""
    commit(store, A, x="1")
    heard(store, B)
    commit(store, A, x="2")
    clash = commit(store, B, after=1, x="3")
    assert clash is not None
    assert clash.names == {"x"}
    merge = store.clash_told(B, clash)
    commit(store, B, after=merge - 1, x="4")
    assert heard(store, C) == {"x": "2"}
    assert store.clashing(B)
    commit(store, B, after=merge, x="5")
    assert heard(store, C) == {"x": "5"}
    assert not store.clashing(B)


def test_deletions_that_all_know_of_are_forgotten(store: NamespaceStore) -> None:
    commit(store, A, kept="1")
    heard(store, B)
    for n in range(4 * LAST_DELETIONS):
        commit(store, A, **{f"t{n}": "x"})
        heard(store, B)
        commit(store, A, deleted=[f"t{n}"])
        heard(store, B)
        commit(store, B)  # which has all that by now
    for grown in (store._heads, *(view.has for view in store._views.values())):
        assert len(grown) < 3 * LAST_DELETIONS
    assert heard(store, C)["kept"] == "1"


def test_deletions_that_somebody_needs_to_hear_of_are_not_forgotten(store: NamespaceStore) -> None:
    commit(store, A, x="1")
    heard(store, B)
    commit(store, A, deleted=["x"])
    for n in range(4 * LAST_DELETIONS):
        commit(store, A, **{f"t{n}": "x"})
        commit(store, A, deleted=[f"t{n}"])
    assert heard(store, B)["x"] is None


def test_of_what_lost_conflicts_the_last_is_kept(store: NamespaceStore) -> None:
    for n in range(MOST_LOSERS + 1):
        commit(store, A, **{f"x{n}": "1"})
        store.commit(B, 10**9, [value("2", f"x{n}")], force=True, lost=[f"x{n}"])
    assert store.loser("x0") is None
    assert len([n for n in range(MOST_LOSERS + 1) if store.loser(f"x{n}")]) == MOST_LOSERS


def test_large_values_that_lost_conflicts_are_the_first_to_be_given_up(store: NamespaceStore) -> None:
    store.commit(A, 0, [large("x", "a.1")])
    store.commit(B, 10**9, [large("x", "b.1")], force=True, lost=["x"])
    assert store.give_up(1) == []
    assert store.loser("x") is None
    assert store.give_up(1) == [(B, "b.1", ["x"])]


def test_who_does_not_tell_what_it_has_heard_is_behind(store: NamespaceStore) -> None:
    while not store.is_behind(B):
        commit(store, A, x="x" * MAX_SENT_UNASKED)
        told = store.news(B)
        assert told is not None
    assert len(store._views[B].told) <= 65
    store.heard(B, told.number)
    assert not store.is_behind(B)
    assert store._views[B].unheard == 0


# --- memory -----------------------------------------------------------------------------------------------------------


def large(name: str, key: str, size: int = 100) -> Component:
    return Component((name,), meta={"segment": {"key": key, "size": size}}, blobs=(key.encode(),))


def test_the_oldest_large_values_that_their_workers_have_are_given_up(store: NamespaceStore) -> None:
    for name in "xyz":
        store.commit(A, 0, [large(name, f"a.{name}")])
    commit(store, A, small="1")
    assert store.give_up(150) == [(A, "a.x", ["x"]), (A, "a.y", ["y"])]
    assert [store.holder(name) for name in ("x", "y", "z", "small")] == [A, A, None, None]
    assert commit(store, A, x="new") is None


def test_so_many_segments_as_are_needed_are_given_up(store: NamespaceStore) -> None:
    for name in "xyz":
        store.commit(A, 0, [large(name, f"a.{name}")])
    assert store.give_up(0, 2) == [(A, "a.x", ["x"]), (A, "a.y", ["y"])]


def test_what_a_worker_was_told_of_is_not_given_up_before_it_has_it(store: NamespaceStore) -> None:
    store.commit(A, 0, [large("x", "a.1")])
    told = store.news(B, {"x"})
    assert told is not None
    assert store.give_up(1) == []
    store.heard(B, told.number)
    assert store.give_up(1) == [(A, "a.1", ["x"])]


def test_what_was_given_up_is_not_lost_with_its_maker_if_another_has_it(store: NamespaceStore) -> None:
    store.commit(A, 0, [large("x", "a.1")])
    told = store.news(B, {"x"})
    assert told is not None
    store.heard(B, told.number)
    store.commit(A, 0, [large("y", "a.2")])  # of which B has not heard
    store.give_up(1000)
    assert (store.lost_names(A), store.lost_names(A, [A, B])) == (["x", "y"], ["y"])
    assert store.forget(A, [B, C]) == [(B, "a.1", ["x"])]
    assert (store.holder("x"), store.holder("y")) == (B, None)
    assert commit(store, B, x="x again") is None
    assert heard(store, C) == {"x": "x again"}


def test_what_nobody_else_has_is_not_given_up(store: NamespaceStore) -> None:
    store.commit(A, 0, [large("x", "a.1")])
    store.forget(A)
    assert store.give_up(1) == []
    assert store.holder("x") is None


def test_a_delta_of_what_was_given_up_is_dropped(store: NamespaceStore) -> None:
    store.commit(A, 0, [large("x", "a.1")])
    store.give_up(1)
    delta = Component(("x",), meta={"onto": "a.1", "delta": {}})
    assert store.commit(A, 0, [delta]) is None
    assert store.holder("x") == A


def test_what_came_as_one_with_what_a_worker_had_changed_is_told_again(store: NamespaceStore) -> None:
    """It doesn't take that over: it has what it had before."""
    commit(store, A, x="1", y="1")
    heard(store, B)
    store.commit(A, 10**9, [value("2", "x", "y")])
    assert heard(store, B) == {"x": "2", "y": "2"}
    commit(store, A, x="3")
    clash = commit(store, B, after=1, x="mine")
    assert clash is not None
    assert clash.heads.keys() == {"x"}
    store.clash_told(B, clash)
    clash = commit(store, B, after=2, y="mine")
    assert clash is not None
    assert [part.blobs for part in clash.base] == [(b"1",)]
    commit(store, B, after=store.clash_told(B, clash), x="3 and mine")
    assert heard(store, B) == {}


def test_what_came_as_one_with_what_a_worker_had_changed_is_among_the_next_news(store: NamespaceStore) -> None:
    commit(store, A, x="1", y="1")
    heard(store, B)
    store.commit(A, 10**9, [value("2", "x", "y")])
    heard(store, B)
    commit(store, A, x="3")
    commit(store, B, after=1, x="mine")
    assert heard(store, B) == {"y": "2"}
    assert heard(store, B) == {}


def test_what_shares_objects_with_a_name_that_is_to_be_merged_is_merged_with_it(store: NamespaceStore) -> None:
    """Be it in what others have, or in what the worker has."""
    store.commit(A, 0, [value("1", "x", "y"), value("1", "z")])
    heard(store, B)
    store.commit(A, 0, [value("2", "y", "z"), value("2", "x")])
    clash = commit(store, B, after=1, z="mine")
    assert clash is not None
    assert clash.heads.keys() == {"x", "y", "z"}
    assert sorted(part.names for part in clash.base) == [("x", "y"), ("z",)]


def test_what_is_not_told_as_it_is_to_be_merged_is_told_when_it_was(store: NamespaceStore) -> None:
    commit(store, A, x="1")
    clash = commit(store, B, after=0, x="2")
    assert clash is not None
    merge = store.clash_told(B, clash)
    commit(store, A, x="3")
    assert heard(store, B) == {}
    assert commit(store, B, after=merge, deleted=["x"]) is None  # which another has changed meanwhile
    assert heard(store, B) == {"x": "3"}


def test_who_merges_is_not_told_to_leave_there_what_it_holds_itself(store: NamespaceStore) -> None:
    store.commit(B, 0, [Component(("x",), HELD)])
    assert offered(store, A) == ["x"]
    store.commit(A, 10**9, [Component(("x",), HELD)])
    clash = commit(store, B, after=0, x="mine")
    assert clash is not None
    store.forget(A, [B])
    clash = store.brought_up(B, clash)
    assert clash.theirs == []
    assert commit(store, B, after=store.clash_told(B, clash), x="mine") is None
    assert heard(store, C) == {"x": "mine"}


def test_the_value_before_that_counts_though_nobody_has_said_that_it_has_it(store: NamespaceStore) -> None:
    commit(store, A, x="old")
    heard(store, B)
    store.commit(A, 10**9, [Component(("x",), HELD)])
    store.forget(A, [B])
    assert heard(store, C) == {"x": "old"}


# --- what ends who loads it -------------------------------------------------------------------------------------------


def test_what_ended_who_loaded_it_is_sent_to_nobody(store: NamespaceStore) -> None:
    store.commit(A, 0, [value("1", "a", "b"), value("2", "c")])
    store.news(B)
    assert store.withhold(B, "a", [A]) == (["a", "b"], [])
    told = store.news(C)
    assert told is not None
    assert [part.names for part in told.sent] == [("c",)]
    assert [(part.names, part.meta["why"]) for part in told.offered] == [(("a", "b"), DEADLY)]
    store.commit(A, 0, [Component(("a", "b"), meta={"rebound": []}, blobs=(b"3",))])  # changed in place
    assert store.holder("a") == A
    commit(store, A, a="4", b="5")
    assert heard(store, C) == {"a": "4", "b": "5"}


def test_what_had_been_loaded_is_not_withheld(store: NamespaceStore) -> None:
    commit(store, A, a="1")
    news = store.news(B)
    assert news is not None
    store.heard(B, news.number)
    assert store.withhold(B, "a", [A]) == ([], [])
    assert store.withhold(C, "a", [A]) == ([], [])
    assert store.holder("a") is None


def test_of_what_ended_who_loaded_it_nothing_is_left_without_its_owner(store: NamespaceStore) -> None:
    commit(store, A, a="1")
    store.forget(A)
    store.news(B)
    assert store.withhold(B, "a", []) == (["a"], [])
    assert heard(store, C) == {"a": None}
