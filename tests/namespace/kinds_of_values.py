"""A table of the kinds of values that notebooks share: how each is made, and what must hold in every process."""

# ruff: noqa: E501

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    what: str
    cell: str  # makes it
    names: str  # that travel
    holds: str  # there, and when it is back home
    before: str = ""  # what the other notebook has run


CASES = [
    Case(
        "plain",
        'x={"a":[1,2,(3,4)],"b":{5}}',
        "x",
        'x=={"a":[1,2,(3,4)],"b":{5}}',
    ),
    Case(
        "function",
        "def f(a,b=2,*,c=3): return a,b,c",
        "f",
        "f(1)==(1,2,3)",
    ),
    Case(
        "recursion",
        "def f(n): return 1 if n<2 else n*f(n-1)",
        "f",
        "f(5)==120",
    ),
    Case(
        "mutual",
        ("def make():\n def e(n): return n==0 or o(n-1)\n def o(n): return n!=0 and e(n-1)\n return e,o\ne,o=make()"),
        "e o",
        "e(10) and not o(10) and e.__closure__[0].cell_contents is o",
    ),
    Case(
        "sharedcell",
        ("def make():\n n=0\n def up():\n  nonlocal n; n+=1\n def get(): return n\n return up,get\nf=make()"),
        "f",
        "(f[0](),f[0](),f[1]())[2]>=2",
    ),
    Case(
        "decorator",
        (
            "import functools\n"
            "def deco(f):\n"
            " @functools.wraps(f)\n"
            " def w(*a): return f(*a)+1\n"
            " return w\n"
            "@deco\n"
            "def f(x): return x"
        ),
        "f deco",
        "f(1)==2 and f.__wrapped__(1)==1 and f.__closure__[0].cell_contents is f.__wrapped__",
    ),
    Case(
        "partial",
        ("import functools\ndef g(a,b): return a-b\nf=functools.partial(g,5)"),
        "f g",
        "f(3)==2 and f.func is g",
    ),
    Case(
        "lambdas",
        "f=[lambda n=n:n for n in range(3)]",
        "f",
        "[e() for e in f]==[0,1,2]",
    ),
    Case(
        "lru",
        ("import functools\n@functools.lru_cache(maxsize=7)\ndef f(n): return n if n<2 else f(n-1)+f(n-2)"),
        "f",
        "f(20)==6765 and f.cache_info().maxsize==7",
    ),
    Case(
        "lrumethod",
        (
            "import functools\n"
            "class K:\n"
            " @functools.lru_cache\n"
            " def m(self): return 4\n"
            " @functools.cache\n"
            " def c(self): return 5\n"
            "k=K()"
        ),
        "k",
        "k.m()==4 and k.c()==5",
    ),
    Case(
        "singledispatch",
        (
            "import functools\n"
            "@functools.singledispatch\n"
            'def f(x): return "o"\n'
            "@f.register\n"
            'def _(x:int): return "i"\n'
            "@f.register(list)\n"
            'def g(x): return "l"'
        ),
        "f",
        '(f(1),f("a"),f([]))==("i","o","l") and f.registry[int](1)=="i"',
    ),
    Case(
        "singledispatchmethod",
        (
            "import functools\n"
            "class K:\n"
            " @functools.singledispatchmethod\n"
            ' def f(s,x): return "o"\n'
            " @f.register\n"
            ' def _(s,x:int): return "i"\n'
            "k=K()"
        ),
        "k",
        '(k.f(1),k.f("a"))==("i","o")',
    ),
    Case(
        "generator function",
        ("def f():\n yield 1\n yield 2"),
        "f",
        "list(f())==[1,2]",
    ),
    Case(
        "coroutine function",
        "async def f(): return 4",
        "f",
        '__import__("asyncio").run(f())==4',
    ),
    Case(
        "class",
        (
            "class K:\n"
            " x=1\n"
            " def m(self): return self.x\n"
            " @property\n"
            " def p(self): return 3\n"
            " @staticmethod\n"
            " def s(): return 4\n"
            " @classmethod\n"
            " def c(cls): return cls\n"
            "k=K()"
        ),
        "K k",
        "type(k) is K and k.m()==1 and k.p==3 and K.s()==4 and K.c() is K",
    ),
    Case(
        "cached_property",
        ("import functools\nclass K:\n @functools.cached_property\n def p(self): return [3]\nk=K()"),
        "K k",
        "k.p==[3] and k.p is k.p",
    ),
    Case(
        "super",
        ("class A:\n def m(self): return 1\nclass B(A):\n def m(self): return super().m()+1\nb=B()"),
        "b A B",
        "b.m()==2 and isinstance(b,A) and type(b) is B",
    ),
    Case(
        "super, class not named",
        ("class A:\n def m(self): return 1\nclass B(A):\n def m(self): return super().m()+1\nb=B()"),
        "b",
        "b.m()==2",
    ),
    Case(
        "metaclass",
        (
            "class M(type):\n"
            " def __new__(m,n,b,d):\n"
            '  d["made"]=d.get("made",0)+1\n'
            "  return super().__new__(m,n,b,d)\n"
            " def hi(cls): return cls.__name__\n"
            "class K(metaclass=M): pass\n"
            "k=K()"
        ),
        "k",
        'type(k).made==1 and type(k).hi()=="K"',
    ),
    Case(
        "abc",
        (
            "import abc\n"
            "class A(abc.ABC):\n"
            " @abc.abstractmethod\n"
            " def m(self): ...\n"
            "class B(A):\n"
            " def m(self): return 1\n"
            "A.register(int)\n"
            "b=B()"
        ),
        "b A",
        'isinstance(b,A) and isinstance(5,A) and b.m()==1 and A.__abstractmethods__=={"m"} and not isinstance("",A)',
    ),
    Case(
        "slots",
        ('class S:\n __slots__=("a","__b")\n def __init__(s): s.a=1; s.__b=2\n def g(s): return s.__b\ns=S()'),
        "s",
        's.a==1 and s.g()==2 and not hasattr(s,"__dict__")',
    ),
    Case(
        "dataclass with slots",
        (
            "import dataclasses\n"
            "@dataclasses.dataclass(slots=True,frozen=True)\n"
            "class S:\n"
            " a:int\n"
            " b:list=dataclasses.field(default_factory=list)\n"
            "s=S(1)"
        ),
        "s S",
        's==S(1,[]) and type(s).__slots__==("a","b")',
    ),
    Case(
        "dataclass",
        (
            "import dataclasses\n"
            "@dataclasses.dataclass\n"
            "class S:\n"
            " a:int\n"
            " b:list=dataclasses.field(default_factory=list)\n"
            " c:int=3\n"
            "s=S(1)"
        ),
        "s S",
        's==S(1,[]) and S(2).b==[] and [f.name for f in dataclasses.fields(S)]==["a","b","c"] and dataclasses.replace(s,a=5).a==5 and dataclasses.fields(S)[0].default is dataclasses.MISSING',
        "import dataclasses",
    ),
    Case(
        "dataclasses, inherited",
        (
            "from dataclasses import dataclass\n"
            "@dataclass(order=True)\n"
            "class S:\n"
            " a:int=0\n"
            "@dataclass\n"
            "class T(S):\n"
            " b:int=1\n"
            "s=T(1)"
        ),
        "s S T",
        "s==T(1,1) and S(1)<S(2) and isinstance(s,S)",
    ),
    Case(
        "enum",
        (
            "import enum\n"
            "class C(enum.Enum):\n"
            " RED=1\n"
            " BLUE=enum.auto()\n"
            " ALSO=1\n"
            " def hi(self): return self.name\n"
            "c=[C.RED,C.BLUE]"
        ),
        "c C",
        'c[0] is C.RED and C(2) is C.BLUE and c[0].hi()=="RED" and C.ALSO is C.RED and list(C)==c',
    ),
    Case(
        "IntEnum",
        ("import enum\nclass C(enum.IntEnum):\n RED=1\n BLUE=2\nc=C.RED"),
        "c",
        'c==1 and type(c)["RED"] is c and isinstance(c,int)',
    ),
    Case(
        "StrEnum",
        ('import enum\nclass C(enum.StrEnum):\n RED=enum.auto()\n BLUE="b"\nc=C.RED'),
        "c",
        'c=="red" and type(c)["RED"] is c',
    ),
    Case(
        "enum with attributes",
        (
            "import enum\n"
            "class P(enum.Enum):\n"
            " E=(1.0,2.0)\n"
            " F=(3.0,4.0)\n"
            " def __init__(self,m,r): self.m=m; self.r=r\n"
            " @property\n"
            " def q(self): return self.m/self.r\n"
            "p=P.E"
        ),
        "p",
        "p.q==.5 and type(p).F.m==3.0",
    ),
    Case(
        "flag",
        ("import enum\nclass F(enum.Flag):\n A=enum.auto()\n B=enum.auto()\nf=[F.A|F.B,F.A]"),
        "f F",
        "f[0]==F.A|F.B and f[1] is F.A and F.A in f[0]",
    ),
    Case(
        "namedtuple",
        ('from collections import namedtuple\nP=namedtuple("P","a b",defaults=[5])\np=P(1)'),
        "p P",
        'p==P(1,5) and p.a==1 and p._replace(a=3).a==3 and type(p) is P and P._fields==("a","b")',
    ),
    Case(
        "NamedTuple",
        (
            "from typing import NamedTuple\n"
            "class P(NamedTuple):\n"
            " a:int\n"
            " b:int=2\n"
            " def s(self): return self.a+self.b\n"
            "p=P(1)"
        ),
        "p P",
        "p.s()==3 and type(p) is P and P(5).b==2",
    ),
    Case(
        "TypedDict",
        ("from typing import TypedDict\nclass T(TypedDict,total=False):\n a:int\nt=T(a=1)"),
        "t T",
        't=={"a":1} and T(a=3)=={"a":3} and T.__total__ is False',
    ),
    Case(
        "Protocol",
        (
            "from typing import Protocol,runtime_checkable\n"
            "@runtime_checkable\n"
            "class P(Protocol):\n"
            " def m(self)->int: ...\n"
            "class K:\n"
            " def m(self): return 1\n"
            "k=K()"
        ),
        "P K k",
        "isinstance(k,P) and not isinstance(5,P)",
    ),
    Case(
        "generic",
        (
            "from typing import Generic,TypeVar\n"
            'T=TypeVar("T")\n'
            "class S(Generic[T]):\n"
            " def __init__(self): self.i=[]\n"
            " def push(self,x:T): self.i.append(x)\n"
            "s=S[int]()"
        ),
        "s S T",
        "isinstance(s,S) and S[str] is not None and S.__parameters__==(T,)",
    ),
    Case(
        "exception with another __init__",
        (
            "class E(Exception):\n"
            " def __init__(self,a,b): super().__init__(a); self.b=b\n"
            "e=E(1,2)\n"
            'e.add_note("n")\n'
            "try:\n"
            " try: 1/0\n"
            " except ZeroDivisionError as z: raise e from z\n"
            "except E: pass"
        ),
        "e E",
        'type(e) is E and e.args==(1,) and e.b==2 and e.__notes__==["n"] and isinstance(e.__cause__,ZeroDivisionError)',
    ),
    Case(
        "exceptions",
        'e=[OSError(2,"x","f"),UnicodeDecodeError("a",b"b",0,1,"r"),KeyError("k"),StopIteration(4),ExceptionGroup("g",[ValueError(1)])]',
        "e",
        'e[0].filename=="f" and e[1].reason=="r" and e[3].value==4 and len(e[4].exceptions)==1',
    ),
    Case(
        "nested",
        ("class A:\n class B:\n  x=1\n  def mk(self): return A\n b=B()\na=A()"),
        "a A",
        'A.b.x==1 and type(A.b) is A.B and A.B.__qualname__=="A.B" and a.b.mk() is A',
    ),
    Case(
        "__init_subclass__",
        (
            "class P:\n"
            " reg=[]\n"
            " def __init_subclass__(cls,*,need,**k): P.reg.append(cls); cls.need=need\n"
            "class Q(P,need=1): pass\n"
            "q=Q()"
        ),
        "q P Q",
        "P.reg==[Q] and Q.need==1 and Q.__bases__==(P,) and Q.__mro__==(Q,P,object)",
    ),
    Case(
        "pydantic",
        (
            "from pydantic import BaseModel, Field, field_validator\n"
            "class M(BaseModel):\n"
            " a:int\n"
            " b:list[int]=Field(default_factory=list)\n"
            ' @field_validator("a")\n'
            " @classmethod\n"
            " def pos(cls,v):\n"
            "  assert v>0\n"
            "  return v\n"
            " def hi(self): return self.a+1\n"
            "class N(M):\n"
            " m: M|None=None\n"
            "m=M(a=1)\n"
            "n=N(a=3,m=m)"
        ),
        "m M n N",
        'm==M(a=1) and type(m) is M and M(a="5").a==5 and n.m is m and n.model_dump()=={"a":3,"b":[],"m":{"a":1,"b":[]}} and m.hi()==2 and "a" in M.model_fields and isinstance(n,M) and M.model_json_schema()["title"]=="M"',
    ),
    Case(
        "sentinel",
        ('S=object()\ndef f(x=S): return x is S\nd={"s":S}'),
        "S f d",
        'f() and d["s"] is S',
    ),
    Case(
        "bound",
        ("class K:\n def m(self): return self.x\nk=K(); k.x=[1]\nf=k.m"),
        "f k",
        "f() is k.x",
    ),
    Case(
        "alias",
        'a=[1]; b={"a":a}; c=(a,b)',
        "a b c",
        'b["a"] is a and c[0] is a',
    ),
    Case(
        "numpy views",
        (
            "import numpy as np\n"
            "a=np.arange(100.).reshape(10,10); b=a[2:5]; c=a[:,3:9]; d=a.T; e=a.reshape(-1); f=a[::-1]; o=a.reshape(10,2,5)"
        ),
        "a b c d e f o",
        '(globals().__setitem__("_x",a.__setitem__((3,4),-7.)),all(np.shares_memory(a,x) for x in (b,c,d,e,f,o)),c[3,1]==-7,f[6,4]==-7, d[4,3]==-7)[1:]==(True,True,True,True)',
        "import numpy as np",
    ),
    Case(
        "large numpy views",
        ("import numpy as np\na=np.zeros((1000,1000)); b=a[2:5]; c=a[:,3:9]"),
        "a b c",
        "all(np.shares_memory(a,x) for x in (b,c)) and a.flags.writeable and a.shape==(1000,1000)",
        "import numpy as np",
    ),
    Case(
        "numpy kinds",
        (
            "import numpy as np\n"
            'a=np.array([1,"x",None],dtype=object); b=np.array("s"); c=np.array([]); d=np.array([("a",1)],dtype=[("x","U3"),("y","i4")]); e=np.ma.masked_array([1,2],[0,1]); m=np.matrix([[1,2]]); r=np.random.default_rng(3); q=np.random.RandomState(3); rec=d.view(np.recarray); f=np.float64(3); fo=np.asfortranarray(np.ones((3,4)))'
        ),
        "a b c d e m r q rec f fo",
        'a[1]=="x" and b.shape==() and c.size==0 and d["y"][0]==1 and e.mask[1] and type(m) is np.matrix and r.random()>=0 and rec.x[0]=="a" and fo.flags.f_contiguous and fo.flags.owndata',
        "import numpy as np",
    ),
    Case(
        "pandas",
        (
            "import pandas as pd, numpy as np\n"
            'df=pd.DataFrame({"a":range(100000),"b":1.5,"c":list("abcdefghij")*10000})\n'
            's=df["a"]\n'
            "ix=df.index"
        ),
        "df s ix",
        'len(df)==100000 and df.c[3]=="d" and s.sum()==4999950000 and (df.__setitem__("z",1),"z" in df)[1]',
    ),
    Case(
        "pandas copy on write",
        ('import pandas as pd\ndf=pd.DataFrame({"a":[1,2,3],"b":[3,4,5]})\ns=df["a"]'),
        "df s",
        '__import__("pandas").__version__ < "3" or (s.__setitem__(0,99),df.a[0]!=99)[1] and (df.loc.__setitem__((1,"a"),55),bool(s[1]!=55))[1]',
    ),
    Case(
        "long chain of objects",
        ("class N:\n pass\nh=None\nfor i in range(20000):\n n=N(); n.next=h; n.i=i; h=n\ndel n"),
        "h",
        '(lambda: [globals().__setitem__("c",h)] and sum(1 for _ in iter(lambda: (globals().__setitem__("c",c.next) or c), None)))()==19999',
    ),
    Case(
        "main and standard output",
        ('import sys\nm=sys.modules["__main__"]\nst=sys.stdout'),
        "m st",
        'm is sys.modules["__main__"] and st is sys.stdout',
        "import sys",
    ),
    Case(
        "typing and the standard library",
        (
            "from typing import *\n"
            'x=[Optional[int],list[int],Callable[[int],str],Any,Union[int,str],Literal["a"]]\n'
            "import re,datetime,decimal,collections,pathlib,fractions,uuid\n"
            'y=[re.compile("a+"),datetime.datetime(2020,1,1),decimal.Decimal("1.5"),collections.OrderedDict(a=1),collections.defaultdict(list,a=[1]),collections.deque([1],maxlen=3),collections.Counter("aab"),pathlib.Path("/x"),fractions.Fraction(1,3),bytearray(b"x"),{}.keys(),range(3),slice(1,2),uuid.UUID(int=3),type(None),int,len,[].append,print,Ellipsis,NotImplemented,iter([1,2]),zip([1],[2]),str.upper,{1:2}.items(),1j,frozenset([1])]'
        ),
        "x y",
        "len(y)==27",
    ),
    Case(
        "on a built-in class, with another __init__ or __new__",
        (
            "from collections import Counter, OrderedDict, defaultdict, deque\n"
            "from datetime import date, datetime, time, timedelta, timezone, tzinfo\n"
            "from decimal import Decimal\n"
            "from fractions import Fraction\n"
            "from functools import partial\n"
            "from pathlib import PurePosixPath\n"
            "def on(base, *args):\n"
            " def __new__(cls, name, *, log): return base.__new__(cls, *args)\n"
            " def __init__(self, name, *, log):\n"
            "  if base.__init__ is not object.__init__: base.__init__(self, *args)\n"
            "  self.label, self.log = name, log\n"
            " x = type('X', (base,), {'__module__': '__main__', '__new__': __new__, '__init__': __init__})('n', log=[])\n"
            " x.log.append(x)\n"
            " return x\n"
            "x = [on(Counter, 'aab'), on(OrderedDict, [(2, 3)]), on(defaultdict, list, {1: 2}), on(deque, [1, 2], 2)]\n"
            "x += [on(set, [1]), on(frozenset, [2]), on(bytearray, b'ab'), on(Decimal, '1.50'), on(Fraction, 1, 2)]\n"
            "x += [on(date, 2024, 1, 2), on(datetime, 2024, 1, 2, 3, 4, 5, 6, timezone.utc), on(time, 5, 6), on(timedelta, 3, 4)]\n"
            "x += [on(int, 5), on(float, 1.5), on(str, 'a'), on(bytes, b'a'), on(tuple, (1, 2)), on(PurePosixPath, '/a')]\n"
            "x += [on(partial, pow, 2), on(tzinfo)]\n"
            "del on"
        ),
        "x",
        (
            "all(e.label == 'n' and len(e.log) == 1 and e.log[0] is e and type(e).__name__ == 'X' for e in x)"
            " and (dict(x[0]), list(x[1].items()), dict(x[2]), list(x[3]), set(x[4]), set(x[5]), bytes(x[6]))"
            " == ({'a': 2, 'b': 1}, [(2, 3)], {1: 2}, [1, 2], {1}, {2}, b'ab') and x[2][5] == x[2].pop(5) and x[3].maxlen == 2"
            " and [str(e) for e in x[7:13]] == ['1.50', '1/2', '2024-01-02', '2024-01-02 03:04:05.000006+00:00', '05:06:00', '3 days, 0:00:04']"
            " and x[13] == 5 and x[14] == 1.5 and x[15] == 'a' and x[16] == b'a' and x[17] == (1, 2) and str(x[18]) == '/a' and x[19](3) == 8"
        ),
    ),
    Case(
        "on a built-in class, with methods of its own for all",
        (
            "from collections import Counter, deque\n"
            "def no(self, *a): raise ValueError\n"
            "class C(Counter): __iter__ = keys = items = update = __setitem__ = __missing__ = no\n"
            "class S(set): __iter__ = add = update = __len__ = no\n"
            "class D(deque): __iter__ = append = extend = maxlen = no\n"
            "c = C.__new__(C); s = S.__new__(S); d = D.__new__(D)\n"
            "_ = dict.__setitem__(c, 'a', s), set.add(s, 5), deque.append(d, c)"
        ),
        "c s d",
        "dict.__getitem__(c, 'a') is s and 5 in s and deque.__getitem__(d, 0) is c",
        "from collections import deque",
    ),
    Case(
        "on a built-in class, with a state or slots of its own",
        (
            "class S(set):\n"
            " def __init__(self, name): self.name, self.file = name, 1\n"
            " def __getstate__(self): return {'name': self.name}\n"
            " def __setstate__(self, state): self.__dict__.update(state, file=2)\n"
            "class T(set):\n"
            " __slots__ = 'a', '__b'\n"
            " def __init__(self, a): self.a, self.__b = a, 2\n"
            " def b(self): return self.__b\n"
            "class R(set):\n"
            " def __init__(self, name): self.name = name\n"
            " def __reduce__(self): return R, (self.name,)\n"
            "s = S('n'); s.add(1); t = T(1); t.add(3); r = R('r'); r.add(5)"
        ),
        "s t r R",
        "(s.name, set(s), s.file in (1, 2), t.a, t.b(), set(t), r.name) == ('n', {1}, True, 1, 2, {3}, 'r')",
    ),
    Case(
        "counter with an attribute",
        "from collections import Counter\nc = Counter('aab'); c.note = [c]",
        "c",
        "dict(c) == {'a': 2, 'b': 1} and c.note[0] is c",
    ),
    Case(
        "in its own sets, and hashed by its content",
        (
            "from collections import Counter, OrderedDict\n"
            "class Tags(set): pass\n"
            "class N:\n"
            " def __init__(self, n):\n"
            "  self.near = set(); self.far = {}; self.n = n; self.near.add(self); self.far[self] = [n]; self.rest = [frozenset([self]), Counter({self: n})]\n"
            "  self.rest += [OrderedDict({self: n}), Tags([self])]\n"
            " def __hash__(self): return hash(self.n)\n"
            " def __eq__(self, other): return self.n == other.n\n"
            "a, b = N(1), N((2, 'x')); a.near.add(b); b.near.add(a); b.far[a] = 3"
        ),
        "a b",
        (
            "b in a.near and a in b.near and a in a.near and (a.far[a], b.far[a]) == ([1], 3) and a in a.rest[0]"
            " and a.rest[1][a] == a.rest[2][a] == 1 and a in a.rest[3] and list(vars(a)) == ['near', 'far', 'n', 'rest']"
        ),
    ),
    Case(
        "in its own sets, and hashed by another object",
        (
            "from collections import Counter, OrderedDict\n"
            "from dataclasses import dataclass, field\n"
            "class Seen(Counter): pass\n"
            "@dataclass(frozen=True)\n"
            "class Node:\n"
            " x: int\n"
            " near: list = field(default_factory=list, compare=False)\n"
            "@dataclass(frozen=True, slots=True)\n"
            "class Edge:\n"
            " a: Node\n"
            " b: Node\n"
            "e = Edge(Node(1), Node(2)); e.a.near.append({**dict.fromkeys(range(2000)), e: 1, **dict.fromkeys('abc')})\n"
            "e.b.near.extend([{e}, Counter({e: 2}), OrderedDict({e: 3}), Seen({e: 4})])"
        ),
        "e",
        "e.a.near[0][e] == 1 and list(e.a.near[0]).index(e) == 2000 and e in e.b.near[0] and [e.b.near[i][e] for i in (1, 2, 3)] == [2, 3, 4]",
    ),
    Case(
        "a long chain of objects that are hashed by their content",
        (
            "class N:\n"
            " def __init__(self, i, next): self.own, self.i, self.next = {}, i, next; self.own[self] = next\n"
            " def __hash__(self): return self.__dict__['i']\n"
            "h = None\n"
            "for i in range(5000): h = N(i, h)"
        ),
        "h",
        "h.own[h] is h.next and h.next.next.i == 4997",
    ),
]
