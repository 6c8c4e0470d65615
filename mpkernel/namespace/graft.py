def graft(old, new):
    for n in new:
        if n in old and type(old[n]) is type(new[n]) is list:
            old[n][:] = new[n]
            new[n] = old[n]
    return new
