"""Charts: numbers and escaped words, nothing else."""

from webapp.charts import Line, line_chart, reliability_diagram


def test_gaps_divide_the_line_and_words_are_escaped() -> None:
    drawing = line_chart(
        [("1", 0.1), ("2", 0.2), ("3", None), ("<4>", 0.9)],
        name='a "b" <c>',
        lines=[Line(0.5, "&")],
    )
    assert drawing.count("<polyline") == 2
    assert drawing.count("<circle") == 3
    assert "<c>" not in drawing
    assert "<4>" not in drawing
    assert "style=" not in drawing


def test_an_empty_chart_is_a_chart() -> None:
    assert "<svg" in line_chart([], name="nothing")
    assert "<svg" in reliability_diagram([], name="nothing", across="x", up="y")


def test_dots_grow_with_their_slices() -> None:
    drawing = reliability_diagram([(0.5, 0.4, 1), (0.9, 0.9, 99)], name="n", across="x", up="y")
    small, large = (part.split('"')[1] for part in drawing.split(" r=")[1:])
    assert float(small) < float(large)
