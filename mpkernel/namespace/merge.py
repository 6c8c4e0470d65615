from dataclasses import dataclass

DELETED = object()


@dataclass
class Merged:
    values: dict
    conflicts: list


def merge(base, mine, theirs, frozen):
    vals = dict(mine)
    conf = []
    for n in theirs:
        if n in mine:
            if type(mine[n]) is list:
                b = base.get(n, [])
                mine[n][:] = b + theirs[n][len(b) :] + frozen[n][len(b) :]
            elif theirs[n] != mine[n]:
                conf.append(n)
        else:
            vals[n] = theirs[n]
    return Merged(vals, conf)
