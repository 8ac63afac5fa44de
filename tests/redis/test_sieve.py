from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aioblobcache.redis.sieve import Item, Sieve


class Named(Item):
    __slots__ = ("name",)

    def __init__(self, name):
        super().__init__()
        self.name = name


class ListSieve:
    """The same as a list, oldest first, and the hand as what it points at."""

    def __init__(self):
        self.items = []
        self.hand = None

    def remove(self, item):
        place = self.items.index(item)
        if self.hand is item:
            self.hand = self.items[place + 1] if place + 1 < len(self.items) else None
        del self.items[place]

    def victim(self, is_worthless):
        place = self.items.index(self.hand) if self.hand else 0
        for _ in range(16):
            item = self.items[place]
            if not item.marked or is_worthless(item):
                break
            item.marked = False
            place = (place + 1) % len(self.items)
        self.hand = self.items[place]
        return self.hand


steps = st.one_of(
    st.just(("add", 0)),
    st.tuples(st.sampled_from(["use", "remove"]), st.integers(0, 30)),
    st.just(("evict", 0)),
)


@given(st.lists(steps, max_size=200), st.sets(st.integers(0, 100), max_size=5))
def test_a_sieve_behaves_like_its_list_model(steps, worthless):
    sieve, reference, items = Sieve(), ListSieve(), []
    twins = {}

    def remove(item):
        sieve.remove(item)
        reference.remove(twins[item])
        items.remove(item)

    for number, (step, place) in enumerate(steps):
        if step == "add":
            item, twin = Named(number), Named(number)
            twins[item] = twin
            sieve.add(item)
            reference.items.append(twin)
            items.append(item)
        elif not items:
            continue
        elif step == "use":
            item = items[place % len(items)]
            item.marked = twins[item].marked = True
        elif step == "remove":
            remove(items[place % len(items)])
        else:
            victim = sieve.victim(lambda item: item.name in worthless)
            assert twins[victim] is reference.victim(lambda item: item.name in worthless)
            remove(victim)


def test_an_eviction_skips_a_bounded_number_of_marked_items():
    sieve = Sieve()
    items = [Named(number) for number in range(1000)]
    for item in items:
        sieve.add(item)
        item.marked = True
    assert sieve.victim(lambda _: False) is items[16]
    assert sum(item.marked for item in items) == 984


def test_an_item_is_unmarked_until_it_is_used():
    assert Item().marked is False
