"""A plot is one whole: cells that only look at it change nothing, and of two that draw in it the later one counts."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from .stories import Stories

pytestmark = pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs matplotlib")

IMPORTS = "import matplotlib.pyplot as plt\nfrom IPython.display import display"
PLOT = "fig, ax = plt.subplots(); plt.close(fig); line, = ax.plot([1, 2, 3]); box = {'plot': ax}"
LOOK = "display(fig)"
DRAW = "ax.plot([3, 2, 1]); ax.set_title('drawn'); display(fig)"
ANEW = "ax.clear(); line, = ax.plot([3, 2, 1]); ax.set_title('drawn'); display(fig)"
THREADS = "one object, no conflict"


@pytest.fixture
def plot(story: Stories) -> Stories:
    """A figure that A has made."""
    story.run("B", IMPORTS)
    story.run("A", f"{IMPORTS}\n{PLOT}")
    story.run("B", "pass")
    return story


def check(story: Stories, lines: int, title: str) -> None:
    """What is drawn is everywhere, and in one piece."""
    for letter in "ABMAB":
        story.check(letter, f"(len(ax.lines), ax.get_title()) == ({lines}, {title!r})")
        story.check(letter, "box['plot'] is ax and fig.axes == [ax] and line in ax.lines and line.figure is fig")


@pytest.mark.parametrize(
    ("in_a", "in_b", "lines", "title"),
    [(LOOK, LOOK, 1, ""), (DRAW, LOOK, 2, "drawn"), (LOOK, DRAW, 2, "drawn"), (ANEW, f"{LOOK}; {LOOK}", 1, "drawn")],
    ids=["both look", "the first draws", "the second draws", "the first draws anew"],
)
def test_who_only_looks_overrules_nobody(plot: Stories, in_a: str, in_b: str, lines: int, title: str) -> None:
    results = plot.at_once(A=in_a, B=in_b)
    assert [result.stderr for result in results] == ["", ""]
    check(plot, lines, title)


def test_the_resolution_of_a_figure_is_changed(plot: Stories) -> None:
    plot("""
        B: fig.set_dpi(50)
        A? fig.dpi == 50
        M? fig.dpi == 50
    """)


def test_a_figure_is_a_picture_in_a_subshell_that_has_not_plotted(story: Stories) -> None:
    story.run("A", f"{IMPORTS}\n{PLOT}")
    assert "image/png" in story.run("B", "fig").data
    assert "image/png" in story.run("M", "box['plot'].figure").data


@pytest.mark.mpkernel_only(THREADS)
def test_of_two_who_draw_the_later_counts(plot: Stories) -> None:
    plot.run("B", "import mpkernel")
    first, second = (
        plot.open_cell("A", "pass", DRAW),
        plot.open_cell("B", "pass", "ax.set_title('mine'); display(fig)"),
    )
    assert first.finish().stderr == ""
    second.finish()
    # On a slow machine the figure takes longer to look at than the end of a cell may; then the line comes later.
    second.pending.wait_until(lambda: "fig" in second.pending.stderr, "a warning")
    check(plot, 1, "mine")
    assert second.pending.stderr.count("\n") == 1
    plot.check("B", "mpkernel.theirs('ax').get_title() == 'drawn'")


@pytest.mark.mpkernel_only(THREADS)
def test_a_plot_that_is_merged_with_its_neighbours_stays_itself_where_it_is_on_show(plot: Stories) -> None:
    plot.run("B", "_held = fig, ax")
    plot.at_once(A="box['a'] = 1", B="box['b'] = 2")
    plot.check("B", "_held[0] is fig and _held[1] is ax and box == {'plot': ax, 'a': 1, 'b': 2}")
    check(plot, 1, "")
