"""An image to point at: click, drag a box or paint, by mouse, touch or keyboard. What was marked goes to the server as numbers.

The value is `{"src", "marks", "turn"}`, which only the browser changes but for another image; `outline`, `[turn, [x, y, …], …]`,
is drawn while it answers the last marks. All coordinates are in parts of the image's sides, 0 to 1.
"""

from typing import Any

import gradio as gr

# Constant, so that Gradio never writes it anew; all that changes is set by the script, as attributes and never as HTML.
_HTML = """<div class="tools" role="toolbar" aria-label="How to point">
<button type="button" data-kind="point" aria-pressed="true">Click</button>
<button type="button" data-kind="box" aria-pressed="false">Box</button>
<button type="button" data-kind="stroke" aria-pressed="false">Paint</button>
<button type="button" data-do="more" aria-pressed="false" title="Add to what is marked">Add</button>
<button type="button" data-do="clear">Clear</button>
</div>
<div class="stage" tabindex="0" role="application" aria-label="The image: mark what you mean. Arrow keys move a cross, Enter marks its place">
<img alt="The image to point at" draggable="false">
<svg viewBox="0 0 1 1" preserveAspectRatio="none" aria-hidden="true">
<path class="shade" fill-rule="evenodd"/><path class="paint"/><path class="halo"/><path class="line"/>
<path class="halo dot"/><path class="line dot"/><path class="cross"/></svg>
</div>
<p class="hint" aria-live="polite"></p>"""
_CSS = """
.tools { display: flex; gap: .35rem; margin-bottom: .5rem; }
.tools button { flex: 0 1 auto; min-height: 2.4rem; padding: 0 .8rem; border: 1px solid var(--border-color-primary); cursor: pointer;
  border-radius: var(--radius-md); background: var(--background-fill-primary); color: var(--body-text-color); font-size: .9rem; }
.tools button[aria-pressed=true] { background: var(--button-primary-background-fill); color: var(--button-primary-text-color); }
.tools button[data-do=more] { margin-left: auto; }
.stage { position: relative; margin: 0 auto; line-height: 0; cursor: crosshair; user-select: none; -webkit-user-select: none;
  touch-action: manipulation; background: var(--background-fill-secondary); border-radius: var(--radius-md); min-height: 120px; }
.stage.drags { touch-action: none; }
.stage img { width: 100%; height: 100%; margin: 0; border-radius: var(--radius-md); pointer-events: none; }
.stage img:not([src]) { display: none; }
svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: hidden; pointer-events: none; }
path { fill: none; stroke-linecap: round; stroke-linejoin: round; vector-effect: non-scaling-stroke; }
.shade { fill: rgb(0 0 0 / .42); stroke: none; }
.paint { stroke: rgb(45 212 191 / .55); }
.halo { stroke: white; stroke-width: 5px; }
.line { stroke: rgb(13 148 136); stroke-width: 2.5px; }
.halo.dot { stroke-width: 14px; }
.line.dot { stroke-width: 9px; }
.cross { stroke: white; stroke-width: 2px; mix-blend-mode: difference; }
.hint { color: var(--body-text-color-subdued); font-size: .85rem; margin: .5rem 0 0 0; min-height: 1.3em; }
"""
_JS = """
const stage = element.querySelector('.stage'), image = stage.querySelector('img'), hint = element.querySelector('.hint');
const path = (name) => stage.querySelector('path.' + name.replace(' ', '.'));
const HINTS = {point: 'Click the thing that you mean.', box: 'Drag a box around it.', stroke: 'Paint over it.'};
const RADIUS = 0.03, LEAST = 4, MOST = 2000;  // of a brush, in widths; of a box, in pixels on the screen; places of a stroke
let kind = 'point', more = false, marks = [], outline = [], drag = null, cursor = null, turn = 0;

const lines = (all) => all.map((at) => 'M' + at.join(' ') + 'Z').join('');
const corners = ([x0, y0, x1, y1]) => [x0, y0, x1, y0, x1, y1, x0, y1];
function draw() {
  const shown = drag ? [...(keeps() ? marks : []), drag] : marks;
  const boxes = shown.filter((mark) => mark.kind === 'box').map((mark) => corners(mark.at));
  const edges = lines(outline.length && !drag ? outline : boxes);
  const dots = shown.filter((mark) => mark.kind === 'point').map(({at}) => 'M' + at.join(' ') + 'h0').join('');
  const strokes = outline.length && !drag ? [] : shown.filter((mark) => mark.kind === 'stroke');
  for (const name of ['halo', 'line']) {
    stage.querySelector('path.' + name + ':not(.dot)').setAttribute('d', edges);
    stage.querySelector('path.' + name + '.dot').setAttribute('d', dots);
  }
  path('paint').setAttribute('d', strokes.map(({at}) => 'M' + at.join(' ') + (at.length === 2 ? 'h0' : '')).join(''));
  path('paint').style.strokeWidth = 2 * RADIUS * image.clientWidth + 'px';
  path('shade').setAttribute('d', edges ? 'M0 0H1V1H0Z' + edges : '');
  const [x, y] = cursor || [0, 0], [w, h] = [12 / image.clientWidth, 12 / image.clientHeight];
  path('cross').setAttribute('d', cursor ? 'M' + (x - w) + ' ' + y + 'h' + 2 * w + 'M' + x + ' ' + (y - h) + 'v' + 2 * h : '');
}
// A stroke goes on from those before; anything else begins anew, unless Add is on.
const keeps = () => more || (kind === 'stroke' && marks.every((mark) => mark.kind === 'stroke'));
function changed(now) {
  marks = now; outline = []; turn += 1;
  draw();
  props.value = {...props.value, marks, turn};
  trigger('input');
}
function mark(one) { changed([...(keeps() ? marks : []), one]); say(); }
function say(words) { hint.textContent = image.hasAttribute('src') ? words || HINTS[kind] : 'Choose an image, or add your own.'; }
function choose(chosen) {
  kind = chosen; drag = null;
  stage.classList.toggle('drags', kind !== 'point');
  for (const button of element.querySelectorAll('button[data-kind]')) button.setAttribute('aria-pressed', button.dataset.kind === kind);
  say(); draw();
}
element.querySelector('.tools').addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.kind) return choose(button.dataset.kind);
  if (button.dataset.do === 'clear') { say(); return changed([]); }
  more = !more;
  button.setAttribute('aria-pressed', more);
});
const round = (number) => Math.round(Math.min(1, Math.max(0, number)) * 1e4) / 1e4;
function place(event) {
  const box = image.getBoundingClientRect();
  return [round((event.clientX - box.left) / box.width), round((event.clientY - box.top) / box.height)];
}
stage.addEventListener('pointerdown', (event) => {
  if (!image.naturalWidth || !event.isPrimary || event.button) return;
  if (kind !== 'point') event.preventDefault();  // a finger that scrolls clicks nothing
  stage.setPointerCapture(event.pointerId);
  const [x, y] = place(event);
  cursor = null;
  drag = {kind, at: kind === 'box' ? [x, y, x, y] : [x, y], ...(kind === 'stroke' ? {radius: RADIUS} : {})};
  draw();
});
stage.addEventListener('pointermove', (event) => {
  if (!drag || !event.isPrimary) return;
  const [x, y] = place(event), at = drag.at;
  if (kind === 'point') drag.at = [x, y];
  else if (kind === 'box') drag.at = [at[0], at[1], x, y];
  else if (at.length < 2 * MOST && (at.at(-2) !== x || at.at(-1) !== y)) at.push(x, y);
  draw();
});
stage.addEventListener('pointerup', (event) => {
  if (!drag || !event.isPrimary) return;
  const done = drag;
  drag = null;
  if (done.kind === 'box') {
    const [x0, y0, x1, y1] = done.at;
    done.at = [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
    const wide = (done.at[2] - done.at[0]) * image.clientWidth, high = (done.at[3] - done.at[1]) * image.clientHeight;
    if (wide < LEAST || high < LEAST) { draw(); return say('That box is too small: drag from one corner of the thing to the other.'); }
  }
  mark(done);
});
stage.addEventListener('pointercancel', () => { drag = null; draw(); });
stage.addEventListener('keydown', (event) => {
  const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
  if (!image.naturalWidth || !(step || (event.key === 'Enter' && cursor))) return;
  event.preventDefault();
  if (!step) return mark({kind: 'point', at: cursor});
  const [x, y] = cursor || [0.5, 0.5], size = event.shiftKey ? 0.1 : 0.02;
  cursor = [round(x + step[0] * size), round(y + step[1] * size)];
  draw();
});
stage.addEventListener('blur', () => { cursor = null; draw(); });
image.addEventListener('load', () => {
  const shape = image.naturalWidth / image.naturalHeight;
  Object.assign(stage.style, {aspectRatio: shape, width: 'min(100%, ' + 62 * shape + 'vh)', minHeight: 0});
  draw();
});
new ResizeObserver(draw).observe(stage);
function show() {
  const src = (props.value || {}).src || '';
  if (src === (image.getAttribute('src') || '')) return;
  marks = []; outline = []; drag = cursor = null; turn += 1;
  if (src) image.setAttribute('src', src); else image.removeAttribute('src');
  say(); draw();
}
watch('value', show);
watch('outline', () => {
  const [asked, ...found] = props.outline || [];
  if (asked === turn && !drag) { outline = found; draw(); }
});
choose('point'); show();
"""


def pointing_canvas(value: dict[str, Any], **options: Any) -> gr.HTML:
    """The component; its `input` event tells that marks have changed."""
    canvas = gr.HTML(
        value=value,
        outline=[],
        html_template=_HTML,
        css_template=_CSS,
        js_on_load=_JS,
        label="Marks",
        apply_default_css=False,
        **options,
    )
    # On the instance, because Gradio writes a .pyi file beside every subclass of a component.
    canvas.api_info = lambda: {  # type: ignore[method-assign]
        "type": "object",
        "title": "Marks",
        "description": 'dict(marks: list[dict(kind: "point" | "box" | "stroke", at: list[float])])',
    }
    return canvas
