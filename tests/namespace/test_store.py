"""The store tells each worker what others committed since it last heard, and a new worker everything."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from mpkernel.messages import Commit, News
from mpkernel.namespace.store import NamespaceStore

A, B, C = 1, 2, 3


@pytest.fixture
def store() -> NamespaceStore:
    return NamespaceStore()


def commit(
    store: NamespaceStore, worker: int, deleted: Iterable[str] = (), lost: Iterable[str] = (), **names: str
) -> None:
    blobs = tuple(value.encode() for value in names.values())
    store.commit(worker, Commit(list(names), list(deleted), list(lost), blobs))


def heard(store: NamespaceStore, worker: int) -> dict[str, str | None]:
    """What the worker hears: values by name, None for what was deleted."""
    news = store.news(worker)
    if news is None:
        return {}
    assert isinstance(news, News)
    values = {name: blob.decode() for name, blob in zip(news.names, news.blobs, strict=True)}
    assert values or news.deleted
    assert not set(values) & set(news.deleted)
    return {**values, **dict.fromkeys(news.deleted)}


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


def test_of_two_writers_the_last_one_wins(store: NamespaceStore) -> None:
    commit(store, A, x="a")
    commit(store, B, x="b")
    assert heard(store, A) == {"x": "b"}
    assert heard(store, B) == {}
    assert heard(store, C) == {"x": "b"}


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
    news = store.news(B)
    assert news is not None
    assert news.names == ["a", "b", "c"]
    assert news.version == store.clock == 4


def test_news_are_none_if_there_are_only_ones_own(store: NamespaceStore) -> None:
    assert store.news(A) is None
    commit(store, A, x="1")
    assert store.news(A) is None


# --- what could not be pickled ----------------------------------------------------------------------------------------


def test_what_is_lost_is_with_its_owner_only(store: NamespaceStore) -> None:
    commit(store, A, lost=["file"], x="1")
    assert heard(store, B) == {"x": "1"}
    assert store.lost_names(A) == ["file"]
    assert store.lost_names(B) == []
    assert store.kept_names() == ["x"]


def test_what_is_lost_is_gone_with_its_owner(store: NamespaceStore) -> None:
    commit(store, A, lost=["file"], x="1")
    store.forget(A)
    assert store.lost_names(A) == []
    assert heard(store, B) == {"x": "1"}


def test_a_value_that_can_be_pickled_again_is_kept_again(store: NamespaceStore) -> None:
    commit(store, A, lost=["x"])
    commit(store, A, x="1")
    assert (store.lost_names(A), store.kept_names()) == ([], ["x"])
    assert heard(store, B) == {"x": "1"}


def test_a_value_that_can_no_longer_be_pickled_is_no_longer_kept(store: NamespaceStore) -> None:
    commit(store, A, x="1")
    commit(store, A, lost=["x"])
    assert (store.lost_names(A), store.kept_names()) == (["x"], [])


def test_what_is_lost_and_deleted_is_deleted(store: NamespaceStore) -> None:
    commit(store, A, lost=["x"])
    commit(store, A, deleted=["x"])
    assert (store.lost_names(A), store.kept_names()) == ([], [])
    assert heard(store, B) == {"x": None}


def test_names_are_told_in_order(store: NamespaceStore) -> None:
    commit(store, A, lost=["z", "y"], b="1", a="2")
    assert (store.lost_names(A), store.kept_names()) == (["y", "z"], ["a", "b"])
