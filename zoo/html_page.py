"""An HTML page in one file that loads nothing: its frame, the look that our pages share, and text that is safe to put into it."""

import html

_JOINERS = "\u200c\u200d"  # not printable, and part of many scripts and emoji
# Light and dark, a column of cards, tables and figures. What a page alone needs it adds.
STYLE = """
:root { --page: #f6f7f9; --card: #ffffff; --ink: #1b2330; --muted: #596273; --grid: #e2e6ec; --good: #137a3f; --bad: #b3261e }
@media (prefers-color-scheme: dark) { :root { --page: #12161c; --card: #1b2129; --ink: #e8ecf2; --muted: #a2acbb; --grid: #343c48;
  --good: #5fd08f; --bad: #ff8f86 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
header, main { max-width: 1060px; margin: 0 auto; padding: 0 20px } header { padding-top: 32px } main { padding-bottom: 32px }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere }
header p { color: var(--muted); margin: 6px 0 0; overflow-wrap: anywhere }
section { background: var(--card); border: 1px solid var(--grid); border-radius: 12px; padding: 18px 22px; margin: 20px 0 }
h2 { font-size: 1.15rem; margin: 0 0 8px; overflow-wrap: anywhere } h3 { font-size: 1rem; margin: 20px 0 6px; overflow-wrap: anywhere }
p { margin: 8px 0; max-width: 78ch } .note { color: var(--muted); font-size: .88rem }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 18px 0 0 }
.tiles div { background: var(--card); border: 1px solid var(--grid); border-radius: 12px; padding: 12px 16px }
.tiles dt { color: var(--muted); font-size: .85rem }
.tiles dd { margin: 0; font-size: 1.35rem; font-weight: 650; font-variant-numeric: tabular-nums }
.tiles small { display: block; color: var(--muted); font-size: .8rem; font-weight: 400 }
figure { margin: 0 } figcaption { font-weight: 600; font-size: .92rem } svg { display: block; width: 100%; height: auto }
.scroll { overflow-x: auto; margin: 10px 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem }
th, td { padding: 5px 18px 5px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--grid) }
th { color: var(--muted); font-weight: 600 } .n { text-align: right; white-space: nowrap }
pre { background: var(--page); border: 1px solid var(--grid); border-radius: 8px; padding: 10px 14px; margin: 10px 0 0; overflow-x: auto; font-size: .88rem }
summary { cursor: pointer; margin: 8px 0 } h4 { margin: 0 0 6px; font-size: .8rem; color: var(--muted); font-weight: 600 }
.good h4 { color: var(--good) } .bad h4 { color: var(--bad) }
@media (max-width: 560px) { section { padding: 14px } header, main { padding-left: 12px; padding-right: 12px } }
@media print { section { break-inside: avoid } }
"""
# Even if something escaped the escaping: no script, no request.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1>{about}</header>
<main>
{body}
</main>
</body>
</html>
"""


def html_page(title: str, about: str, body: str, style: str = "") -> str:
    """The page.

    Args:
        title: text, which is escaped here. about: HTML under the title. body: HTML of `<section>`s. style: CSS after the shared one.
    """
    return _PAGE.format(title=safe(title), about=about, style=STYLE + style, body=body)


def safe(text: object) -> str:
    """A text of others on one line, without control characters, escaped for HTML and its attributes."""
    line = "".join(letter if letter.isprintable() or letter in _JOINERS else " " for letter in str(text))
    return html.escape(" ".join(line.split()), quote=True)
