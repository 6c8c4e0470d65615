"""What only newer Pythons have a syntax for is shared, too. The titles say since which."""

from __future__ import annotations

import sys

import pytest

from .stories import Stories, blocks

STORIES = blocks(
    r"""
# 3.12: a generic function
A: def first[T](xs: list[T], default: T | None = None) -> T: return xs[0]
B? first([4, 5]) == 4 and [p.__name__ for p in first.__type_params__] == ["T"]
B? first.__annotations__["return"] is first.__type_params__[0]
B: def first[S, T](xs: list[T]) -> T: return xs[-1]
A? first([4, 5]) == 5 and [p.__name__ for p in first.__type_params__] == ["S", "T"]

# 3.12: a generic class
A: class Box[T]:
       def __init__(self, value: T): self.value = value
       def beside[U: int](self, other: U) -> tuple[T, U]: return self.value, other
   class Special[T](Box[T]):
       type Inner = list[T]
   boxes, special = {"one": Box[int](3)}, Special(5)
B? boxes["one"].beside(4) == (3, 4) and repr(boxes["one"].__orig_class__) == "__main__.Box[int]"
B? Box.__type_params__[0] is Box.__init__.__annotations__["value"] and Box.__parameters__ == Box.__type_params__
B? Box.beside.__type_params__[0].__bound__ is int and repr(Box[str]) == "__main__.Box[str]"
B? Special.Inner.__value__ == list[Special.__type_params__[0]] and isinstance(special, Box)
B: special.more = Special.Inner
A? special.more is Special.Inner

# 3.12: all kinds of type parameters
A: class Limit: pass
   class Node[T: Node]: pass
   def many[A: Limit, B: (int, str), *Ts, **P](a: A, *ts: *Ts): pass
   kinds = [(type(p).__name__, p.__name__) for p in many.__type_params__]
B? [(type(p).__name__, p.__name__) for p in many.__type_params__] == kinds
B? many.__type_params__[0].__bound__ is Limit and many.__type_params__[0].__constraints__ == ()
B? many.__type_params__[1].__constraints__ == (int, str)
B? Node.__type_params__[0].__bound__ is Node and many.__type_params__[1].__bound__ is None

# 3.12: type aliases
A: type Tree = dict[str, Tree] | int
   type Pair[K] = tuple[K, K]
   class Holder: pass
   def walk(tree: Tree) -> Pair[int]: return 1, 2
   holder = Holder(); holder.kinds = [Tree, Pair]; named = {"pair": Pair}
B? Tree.__value__ == dict[str, Tree] | int and repr(Pair[int]).endswith("Pair[int]") and Tree.__name__ == "Tree"
B? holder.kinds[0] is Tree and holder.kinds[1] is Pair is named["pair"] and walk({})[1] == 2
B? Pair.__value__ == tuple[Pair.__type_params__[0], Pair.__type_params__[0]]
B: holder.kinds.append(Tree)
A? holder.kinds[2] is Tree
B: type Tree = int
A? Tree.__value__ is int and holder.kinds[0] is not Tree

# 3.12: an alias that speaks of what is defined later
A: type Later = Yet
B? Later.__name__ == "Later"
B! NameError: Later.__value__
A: class Yet: pass
A? Later.__value__ is Yet

# 3.13: defaults of type parameters
A: class Box[T = int]: pass
B? Box.__type_params__[0].__default__ is int and Box.__type_params__[0].has_default()

# 3.14: annotations of what is defined later
A: class Node:
       value: int
       next: Node | None = None
       later: Undefined = 3
       def link(self, other: Node) -> Node: self.next = other; return self
   def use(x: Undefined, *, y: Node) -> Undefined: return x
   node = Node().link(Node())
B? use(3, y=node) == 3 and type(node.next) is Node
B: import annotationlib
B? annotationlib.get_annotations(Node, format=annotationlib.Format.STRING)["later"] == "Undefined"
C? node.next.next is None
C: class Undefined: pass
A? Node.__annotations__["later"] is Undefined and use.__annotations__["return"] is Undefined
B? Node.__annotations__["later"] is Undefined and Node.link.__annotations__["other"] is Node
B: Node.more = 5
A? node.more == 5

# 3.14: annotations refer to what the class's body has
A: class Base: pass
   class Owner(Base):
       class Inner: pass
       one: Inner
       def get(self) -> Inner: return self.Inner()
   owner = Owner()
B? Owner.get.__annotations__["return"] is Owner.Inner and Owner.__annotations__["one"] is Owner.Inner
B: owner.x = Owner.get(owner); Owner.y = 2
C? type(owner.x) is Owner.Inner and owner.y == 2

# 3.14: dataclasses that speak of themselves
A: from dataclasses import dataclass, field
   @dataclass
   class Part:
       name: str
       whole: Part | None = None
       parts: list[Part] = field(default_factory=list)
   @dataclass(slots=True, frozen=True)
   class Point:
       x: int = 1
   whole = Part("whole")
B: whole.parts.append(Part("part", whole)); point = Point(4)
A? whole.parts[0].whole is whole and point == Point(4) and type(point) is Point
A: whole.parts.append(Part("other", whole))
C? [part.name for part in whole.parts] == ["part", "other"] and Part.__annotations__["whole"] == Part | None

# 3.14: template strings
A: name = "world"; greeting = t"hello {name!r:>10}"
B? greeting.values == ("world",) and greeting.interpolations[0].format_spec == ">10"

# 3.15: imports that wait until they are needed
A: lazy import mailcap_of_mpt as none; lazy import xml.dom.minidom; lazy from wsgiref import util as tools; import sys
   x = 1
B? x == 1 and not {"xml.dom.minidom", "wsgiref.util"} & set(sys.modules)
B? xml.dom.minidom.parseString("<a/>") and tools.is_hop_by_hop("Connection")
A? xml.dom.minidom.parseString("<a/>") and tools.is_hop_by_hop("Connection")
B! ModuleNotFoundError: none.x

# 3.15: frozen dicts
A: frozen = frozendict(a=[1]); part = frozen["a"]
B: frozen["a"].append(2)
A? frozen == frozendict(a=[1, 2]) and part is frozen["a"]
"""
)


@pytest.mark.parametrize("title", STORIES)
def test_newer_syntax_is_shared(story: Stories, title: str) -> None:
    since = title.split(":")[0]
    if sys.version_info < tuple(map(int, since.split("."))):
        pytest.skip(f"since Python {since}")
    story(STORIES[title])
