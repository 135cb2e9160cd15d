"""A page is one file: its pictures are in it, and nothing that a capture is called acts in it."""

import base64

from ids_appliance.train.page import to_html

PNG = b"\x89PNG\r\n\x1a\n and so on"


def test_headings_tables_and_pictures():
    text = "# Model *x*\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n![curve](curve.png)\n"
    page = to_html(text, pictures={"curve.png": PNG})
    assert "<title>Model *x*</title>" in page and "<h1>Model <em>x</em></h1>" in page
    assert "<td>1</td>" in page
    picture = base64.b64encode(PNG).decode()
    assert f'<img src="data:image/png;base64,{picture}" alt="curve"' in page


def test_names_of_captures_neither_run_nor_load_anything():
    text = (
        "# A & <b>\n\n<script>alert(1)</script> ![beacon](http://192.0.2.1/x.png) "
        "![file](../../secret.png) [run](javascript:alert(1))\n"
    )
    page = to_html(text, pictures={"curve.png": PNG})
    assert "<title>A &amp; &lt;b&gt;</title>" in page
    for bad in ("<script", "<img", "192.0.2.1", "secret.png", 'href="javascript'):
        assert bad not in page
    assert "beacon" in page and "file" in page


def test_a_page_without_a_heading():
    assert "<title></title>" in to_html("words")
