"""The list of what was found: images, players that begin at the moment that fits, and pages of PDFs.

Its value is `{"title", "note", "rows": [{"label", "kind", "file", …}]}`; see `_api_info`.
"""

from typing import Any

import gradio as gr

# Constant, so that Gradio never writes it anew: a player that plays goes on when moments are told for the rows.
_HTML = """<p class="head" aria-live="polite"></p><ol></ol><p class="note"></p>"""
_CSS = """
.head { font-weight: 600; margin: 0 0 .6rem 0; overflow-wrap: anywhere; }
.note { color: var(--body-text-color-subdued); font-size: .82rem; line-height: 1.45; margin: .7rem 0 0 0; }
.head:empty, .note:empty, ol:empty { display: none; }
ol { list-style: none; margin: 0; padding: 0; display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(230px, 1fr)); }
li { display: grid; grid-template-columns: 1fr auto; column-gap: .6rem; align-content: start; align-items: baseline;
  padding: .7rem; border: 1px solid var(--border-color-primary); border-radius: var(--radius-lg); min-width: 0; }
.media { grid-column: 1 / -1; min-width: 0; margin-bottom: .5rem; }
.media > *, .media a > img { width: 100%; max-width: 100%; border-radius: var(--radius-md); display: block; }
video, .media img { aspect-ratio: 4 / 3; object-fit: contain; background: var(--background-fill-secondary); }
audio { height: 40px; }
.name { font-size: .92rem; line-height: 1.3; overflow-wrap: anywhere; min-width: 0; }
.number { font-variant-numeric: tabular-nums; font-size: .85rem; color: var(--body-text-color-subdued); }
.track { grid-column: 1 / -1; height: 7px; border-radius: 4px; background: var(--border-color-primary); margin-top: .4rem; }
.track > span { display: block; height: 100%; border-radius: 4px; background: var(--color-accent); }
.weak .track > span { opacity: .35; }
.why { grid-column: 1 / -1; margin-top: .5rem; display: grid; gap: .35rem; font-size: .85rem; color: var(--body-text-color-subdued); }
.why button { justify-self: start; padding: .3rem .7rem; border: 1px solid var(--border-color-primary); cursor: pointer; min-height: 2rem;
  border-radius: var(--radius-md); background: var(--background-fill-secondary); color: var(--body-text-color); font-size: .85rem; }
.like { grid-column: 1 / -1; justify-self: start; margin-top: .5rem; padding: 0; border: 0; background: none; cursor: pointer; min-height: 1.6rem;
  font-size: .82rem; font-weight: 400; box-shadow: none; text-decoration: underline; color: var(--body-text-color-subdued); }
.parts { display: flex; align-items: flex-end; gap: 1px; height: 26px; }
.parts span { flex: 1 1 0; min-width: 1px; min-height: 2px; border-radius: 2px 2px 0 0; background: var(--border-color-primary); }
.parts span.best { background: var(--color-accent); }
"""
_JS = """
const [head, list, note] = ['.head', 'ol', '.note'].map((one) => element.querySelector(one));
function make(tag, given, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name in made && name !== 'list') made[name] = value; else made.setAttribute(name, value);
  }
  made.append(...inside);
  return made;
}
const clock = (seconds) => Math.floor(seconds / 60) + ':' + String(Math.floor(seconds % 60)).padStart(2, '0');
const PLAYERS = {
  audio: (row) => make('audio', {controls: true, preload: 'none', src: row.file, 'aria-label': row.label}),
  video: (row) => make('video', {controls: true, preload: 'metadata', playsInline: true, src: row.file, 'aria-label': row.label}),
  image: (row) => row.link ? linked(row, row.link, row.file) : make('img', {loading: 'lazy', src: row.file, alt: row.label}),
  document: (row) => linked(row, row.file, row.image),
};
function linked(row, href, src) {
  return make('a', {href, target: '_blank', rel: 'noopener'}, make('img', {loading: 'lazy', src, alt: row.label}));
}
function card(row) {
  const media = make('div', {className: 'media'}, ...(PLAYERS[row.kind] ? [PLAYERS[row.kind](row)] : []));
  const like = make('button', {type: 'button', className: 'like', textContent: 'More like this', onclick: (event) => {
    trigger('select', {index: [...list.children].indexOf(event.target.closest('li'))});
  }});
  return make('li', {}, media, make('span', {className: 'name'}), make('span', {className: 'number'}),
    make('span', {className: 'track', hidden: true}, make('span', {})), make('div', {className: 'why', hidden: true}),
    ...(row.kind ? [like] : []));
}
function fill(one, row) {
  one.querySelector('.name').textContent = row.label;
  one.querySelector('.number').textContent = row.text ?? '';
  one.classList.toggle('weak', Boolean(row.weak));
  const track = one.querySelector('.track');
  track.hidden = row.text === undefined;
  track.style.display = track.hidden ? 'none' : '';
  track.firstChild.style.width = Math.max(0, Math.min(100, 100 * (row.bar || 0))).toFixed(1) + '%';
  const told = JSON.stringify(row.moment || null);
  if (one.dataset.moment !== told) { one.dataset.moment = told; why(one, row); }
}
function why(one, row) {
  const place = one.querySelector('.why'), moment = row.moment;
  place.hidden = !moment;
  place.style.display = moment ? '' : 'none';
  place.replaceChildren();
  const player = one.querySelector('audio, video'), open = one.querySelector('.media a');
  // An address of its own for each moment; what the visitor plays already is left alone.
  if (player && player.paused && !player.played.length) {
    const wanted = row.file + (moment ? '#t=' + moment.start : '');
    if (player.getAttribute('src') !== wanted) player.src = wanted;
    if (moment?.image) player.poster = moment.image; else player.removeAttribute('poster');
  }
  if (open && row.kind === 'document') {
    open.href = row.file + (moment ? '#page=' + moment.page : '');
    open.querySelector('img').src = moment?.image || row.image;
  }
  if (!moment) return;
  const best = moment.parts.indexOf(Math.max(...moment.parts));
  place.append(make('div', {className: 'parts', 'aria-hidden': 'true'}, ...moment.parts.map((part, number) => {
    const bar = make('span', {className: number === best ? 'best' : ''});
    bar.style.height = Math.round(100 * part) + '%';
    return bar;
  })));
  if (!player) return place.append('Fits best: page ' + moment.page + ' of ' + moment.pages);
  place.append(make('button', {type: 'button', textContent: 'Play from ' + clock(moment.start) + ', the best fit', onclick: () => {
    player.currentTime = moment.start;
    player.play();
  }}));
}
let keys = '';
function show() {
  const value = props.value || {}, rows = value.rows || [];
  const now = JSON.stringify([value.title, ...rows.map((row) => [row.kind, row.file])]);
  if (value.late && now !== keys) return;  // moments of what is not shown any more
  head.textContent = value.title || '';
  note.textContent = value.note || '';
  if (now !== keys) list.replaceChildren(...rows.map(card));
  keys = now;
  // Whether moments are still to come, for those who listen to the page.
  list.setAttribute('aria-busy', value.late ? value.late !== 'all' : rows.some((row) => row.text !== undefined));
  rows.forEach((row, number) => fill(list.children[number], row));
}
watch('value', show);
show();
"""


def found_list(value: dict[str, Any], **options: Any) -> gr.HTML:
    """The component; its `select` event tells the place, as `index`, of the file of which more are wanted."""
    found = gr.HTML(value=value, html_template=_HTML, css_template=_CSS, js_on_load=_JS, padding=True, **options)
    # On the instance, because Gradio writes a .pyi file beside every subclass of a component.
    found.api_info = _api_info  # type: ignore[method-assign]
    return found


def _api_info() -> dict[str, str]:
    return {
        "type": "object",
        "title": "Results",
        "description": "dict(title: str, rows: list[dict(label: str, kind: str, file: str, text: str, cosine: float)], note: str); "
        "a row has `weak` where it lies below what right answers reach, and in the answers that follow `moment`: "
        "dict(start: float, end: float) in seconds, or dict(page: int, pages: int)",
    }
